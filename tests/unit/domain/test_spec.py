from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.sizes import KIB, MIB
from magpie_local.domain.spec import MAX_ENV_ENTRY, MAX_NAME, MAX_SCRIPT, HostLimits, JobSpec, script_bytes
from magpie_local.errors import InvalidInput

LIMITS = HostLimits(vcpus=16, memory_mb=8192, min_memory_mb=128)
GOOD = JobSpec(name="report", script=b"echo hi")
LONE_SURROGATE = "\ud800"


def refused(**fields: object) -> InvalidInput:
    """Check GOOD with other fields; return the error that must come."""
    with pytest.raises(InvalidInput) as caught:
        replace(GOOD, **fields).check(LIMITS)  # type: ignore[arg-type]  # wrong types are the point
    return caught.value


def test_a_plain_spec_is_accepted():
    GOOD.check(LIMITS)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "../../etc/passwd"},
        {"name": "<script>alert(1)</script>"},
        {"name": "'; DROP TABLE jobs; --"},
        {"name": "Bericht für März 🐦"},
        {"name": "n" * MAX_NAME},
        {"script": b"echo a\r\necho b\r\n"},
        {"script": b"\xff\xfe echo"},
        {"script": b"\xef\xbb\xbfecho hi"},
        {"script": b"#" * MAX_SCRIPT},
        {"vcpus": 16},
        {"memory_mb": 128},
        {"memory_mb": 8192},
        {"timeout": 0.001},
        {"timeout": 365 * 86400},
        {"env": {"A": "quotes ' \" and\nnewlines $(date) `id`", "_b9": ""}},
        {"env": {"A": "x" * (MAX_ENV_ENTRY - 3)}},
        {"env": MappingProxyType({"PATH": "/opt/bin"})},
        {"log_limit": 64 * KIB},
        {"image": "debian-12.5_arm"},
        {"description": ""},
    ],
    ids=repr,
)
def test_what_the_guest_can_take_byte_for_byte_is_accepted(fields):
    replace(GOOD, **fields).check(LIMITS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "  "),
        ("name", "two\nlines"),
        ("name", "nul\0"),
        ("name", "esc\x1b[31m"),
        ("name", "n" * 300),
        ("name", LONE_SURROGATE),
        ("name", None),
        ("name", b"bytes"),
        ("description", "two\nlines"),
        ("description", "d" * 10_001),
        ("description", None),
        ("script", b""),
        ("script", b" \n\t"),
        ("script", b"echo \0"),
        ("script", b"#" * (MAX_SCRIPT + 1)),
        ("script", "text"),
        ("vcpus", 0),
        ("vcpus", -1),
        ("vcpus", 17),
        ("vcpus", 10_000),
        ("vcpus", True),
        ("vcpus", 1.5),
        ("vcpus", "2"),
        ("vcpus", None),
        ("memory_mb", 0),
        ("memory_mb", 127),
        ("memory_mb", 8193),
        ("memory_mb", 512.0),
        ("memory_mb", 10**30),
        ("idle_pause", 60.0),  # of a job that is not persistent
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", math.nan),
        ("timeout", math.inf),
        ("timeout", -math.inf),
        ("timeout", True),
        ("timeout", "60"),
        ("timeout", 366 * 86400),
        ("log_limit", 64 * KIB - 1),
        ("log_limit", 1.5 * MIB),
        ("image", "../base"),
        ("image", "Base"),
        ("image", ""),
        ("image", ".hidden"),
        ("image", "b" * 64),
        ("image", "base\n"),
        ("image", None),
        ("env", None),
        ("env", [("A", "b")]),
        ("env", "A=b"),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_a_bad_value_is_refused_by_its_field(field, value):
    error = refused(**{field: value})

    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    assert error.allowed


@pytest.mark.parametrize(
    "key", ["", "1A", "A B", "A=B", "a-b", "Ä", "A\0", "A\n", ";rm -rf", "$(id)", "BASH_FUNC_x%%", LONE_SURROGATE, 5]
)
def test_an_env_name_that_is_no_identifier_is_refused(key):
    error = refused(env={"GOOD": "1", key: "value"})

    assert (error.field, error.value) == ("env", key)


@pytest.mark.parametrize("value", ["nul\0", LONE_SURROGATE, 5, None, b"bytes", "x" * (MAX_ENV_ENTRY - 2), "x" * MIB])
def test_an_env_value_that_no_process_can_be_given_is_refused_by_its_name(value):
    error = refused(env={"KEY": value})

    assert error.field == "env['KEY']"


def test_an_env_that_is_too_large_as_a_whole_is_refused():
    error = refused(env={f"K{number}": "x" * 100_000 for number in range(11)})

    assert error.field == "env"
    assert "1048576 bytes in all" in error.allowed


def test_the_size_of_an_env_value_counts_in_bytes():
    error = refused(env={"KEY": "ä" * (MAX_ENV_ENTRY // 2)})

    assert error.field == "env['KEY']"


def test_an_error_shows_a_huge_value_in_one_short_line():
    error = refused(name="n" * 1_000_000)

    assert len(str(error)) < 250
    assert "1000002 characters" in str(error)


def test_an_error_about_a_script_shows_where_the_nul_is_and_not_the_whole_script():
    error = refused(script=b"#" * 5000 + b"\0" + b"secret" * 100)

    assert "offset 5000" in str(error)
    assert len(str(error)) < 250


def test_values_of_env_and_script_are_not_in_the_repr():
    spec = replace(GOOD, script=b"echo hunter2", env={"PASSWORD": "hunter2"})

    assert "hunter2" not in repr(spec)


@given(st.text())
def test_a_script_as_text_keeps_every_character_that_utf_8_has(text):
    try:
        script = script_bytes(text)
    except InvalidInput:
        assert any("\ud800" <= char <= "\udfff" for char in text)
    else:
        assert script.decode() == text


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_script_as_bytes_is_taken_as_it_is(kind):
    assert script_bytes(kind(b"\xff\r\n")) == b"\xff\r\n"


@pytest.mark.parametrize("script", [None, 5, ["echo"], LONE_SURROGATE])
def test_a_script_that_is_neither_text_nor_bytes_is_refused(script):
    with pytest.raises(InvalidInput, match="script: "):
        script_bytes(script)


def complaint(**fields: object) -> str | None:
    """Return the field that GOOD with other fields is refused for; None where it is accepted."""
    try:
        replace(GOOD, **fields).check(LIMITS)  # type: ignore[arg-type]  # wrong types are the point
    except InvalidInput as error:
        return error.field
    return None


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_any_timeout_is_accepted_or_refused_by_the_one_typed_error(value):
    field = complaint(timeout=value)

    assert field == "timeout" if field else value is None or 0 < value <= 365 * 86400


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=4))
def test_any_env_is_accepted_or_refused_by_the_one_typed_error(env):
    field = complaint(env=env)

    assert field is None or field.startswith("env")
    if field is None:
        assert all(key.isascii() and key.isidentifier() and "\0" not in value for key, value in env.items())


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "10m", 366 * 86400])
def test_an_idle_pause_is_a_positive_number_of_seconds(value):
    with pytest.raises(InvalidInput, match="idle_pause"):
        JobSpec(name="vm", script=b"true", persistent=True, idle_pause=value).check(LIMITS)


def test_a_persistent_job_may_have_an_idle_pause():
    JobSpec(name="vm", script=b"true", persistent=True, idle_pause=0.5).check(LIMITS)
