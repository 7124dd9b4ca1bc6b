from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.sizes import (
    GIB,
    KIB,
    MIB,
    format_bytes,
    format_count,
    format_seconds,
    parse_duration,
    parse_size,
)
from magpie_local.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("1b", 1), ("64k", 64 * KIB), ("64 KiB", 64 * KIB), ("512MB", 512 * MIB),
        ("4GiB", 4 * GIB), (" 1.5 g ", GIB + GIB // 2), ("2TB", 2048 * GIB), (4096, 4096),
    ],
)  # fmt: skip
def test_a_size_is_read_in_powers_of_1024(text, size):
    assert parse_size("memory", text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1e3", "1,5GB", "1 GB 2", "1XB", "٣GB", "9" * 50, True, -1, None])
def test_what_is_no_size_is_refused_by_its_field(text):
    with pytest.raises(InvalidInput, match="memory: "):
        parse_size("memory", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("1d", 86400), ("1.5 h", 5400), ("250ms", 0.25), (2.5, 2.5)],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert parse_duration("timeout", text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "1w", "nan", "inf", math.nan, math.inf, True, None])
def test_what_is_no_duration_is_refused_by_its_field(text):
    with pytest.raises(InvalidInput, match="timeout: "):
        parse_duration("timeout", text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (16 * MIB, "16.0 MiB"), (GIB * 5 // 2, "2.5 GiB"), (3 * 1024 * GIB, "3.0 TiB")],
)
def test_bytes_are_shown_for_a_person(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.421, "0.42 s"), (12.34, "12.3 s"), (185, "3 min 05 s"), (3599.7, "1 h 00 min"), (7440, "2 h 04 min")],
)
def test_seconds_are_shown_for_a_person(seconds, text):
    assert format_seconds(seconds) == text


@given(st.integers(0, 10**15))
def test_a_whole_number_of_bytes_is_read_as_itself(count):
    assert parse_size("memory", str(count)) == count


def test_one_of_something_is_no_plural():
    assert [format_count(count, "file") for count in range(3)] == ["0 files", "1 file", "2 files"]
