"""Sizes and durations as people write them: `512MB`, `4GiB`, `90s`, `5m`."""

from __future__ import annotations

import math
import re

from magpie_local.errors import InvalidInput

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kb": KIB, "kib": KIB,
    "m": MIB, "mb": MIB, "mib": MIB,
    "g": GIB, "gb": GIB, "gib": GIB,
    "t": 1024 * GIB, "tb": 1024 * GIB, "tib": 1024 * GIB,
}  # fmt: skip
_TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def parse_size(field: str, text: str | int) -> int:
    """Return a size in bytes; units are powers of 1024 whether or not the `i` is written.

    Raises:
        InvalidInput: `text` is no size; the error names `field`.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    amount = _quantity(text, _SIZE_UNITS)
    if amount is None:
        raise InvalidInput(field, text, "write a size like 512MB or 4GiB")
    return int(amount)


def parse_duration(field: str, text: str | float) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidInput: `text` is no duration; the error names `field`.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and math.isfinite(text):
        return float(text)
    amount = _quantity(text, _TIME_UNITS)
    if amount is None:
        raise InvalidInput(field, text, "write a duration like 90s, 5m or 1h")
    return amount


def format_bytes(count: float) -> str:
    """Return `count` bytes for a person: `16.0 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun for a person: `1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_seconds(seconds: float) -> str:
    """Return a duration for a person: `0.42 s`, `3 min 05 s`, `2 h 04 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _quantity(text: object, units: dict[str, int] | dict[str, float]) -> float | None:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) and len(text) < 40 else None
    if match is None or match[2].lower() not in units:
        return None
    return float(match[1]) * units[match[2].lower()]
