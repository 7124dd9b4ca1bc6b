from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.exitrecord import ExitRecord, parse_exit
from magpie_local.domain.frames import pack

NONCE = "b1e5"
GOOD = {
    "nonce": NONCE, "code": 143, "signal": 15, "timed_out": False, "stopped": True, "started_at": 10.0,
    "ended_at": 12.5,
}  # fmt: skip


def payload(**fields: object) -> bytes:
    return pack(GOOD | fields)


def test_a_record_with_the_nonce_is_read_whole():
    record = parse_exit(payload(), NONCE)

    assert record == ExitRecord(
        code=143, signal=15, timed_out=False, stopped=True, started_at=10.0, ended_at=12.5
    )  # fmt: skip


@pytest.mark.parametrize("nonce", ["", "b1e4", "b1e50", None, 0, {"b1e5": 1}])
def test_a_record_with_another_nonce_counts_for_nothing(nonce):
    assert parse_exit(payload(nonce=nonce), NONCE) is None


@pytest.mark.parametrize("field", GOOD)
def test_a_record_that_lacks_a_field_counts_for_nothing(field):
    rest = {name: value for name, value in GOOD.items() if name != field}

    assert parse_exit(pack(rest), NONCE) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"code": -1}, {"code": 256}, {"code": "0"}, {"code": True}, {"code": 1.0}, {"code": None}, {"signal": "9"},
        {"signal": True}, {"started_at": "soon"}, {"ended_at": None}, {"ended_at": {}}, {"started_at": True},
        {"ended_at": float("nan")}, {"started_at": float("inf")}, {"ended_at": 10**400},
    ],
    ids=lambda fields: repr(fields)[:30],
)  # fmt: skip
def test_a_record_with_an_impossible_value_counts_for_nothing(fields):
    assert parse_exit(payload(**fields), NONCE) is None


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"s",
        b"n\x05\0\0\0\0nonc",
        pack({"nonce": NONCE}),
        b"\xff" * 40,
        payload() + b"m",
        payload()[:-1],
        payload() * 2,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_hostile_payload_counts_for_nothing(hostile):
    assert parse_exit(hostile, NONCE) is None


@pytest.mark.parametrize("value", ["true", 1, "yes", None, {}])
def test_only_true_itself_says_that_it_was_timed_out_or_stopped(value):
    record = parse_exit(payload(timed_out=value, stopped=value), NONCE)

    assert record is not None
    assert (record.timed_out, record.stopped) == (False, False)


def test_a_nonce_of_other_than_ascii_does_not_break_the_comparison():
    assert parse_exit(payload(nonce="ñ"), NONCE) is None


SHORT = st.text(max_size=50)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | SHORT | st.dictionaries(SHORT, SHORT, max_size=3)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, VALUES)))
def test_any_message_is_a_record_or_nothing(fields):
    record = parse_exit(payload(**fields), NONCE)

    assert record is None or 0 <= record.code <= 255


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_nothing(data):
    assert parse_exit(data, NONCE) is None
