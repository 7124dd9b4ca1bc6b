"""Option types: sizes, durations and environment entries as people write them."""

from __future__ import annotations

import os

import click

from magpie_local.domain.sizes import GIB, MIB, parse_duration, parse_size
from magpie_local.errors import InvalidInput


class Size(click.ParamType[int]):
    """A size in bytes; a bare number counts `unit` bytes."""

    name = "size"

    def __init__(self, unit: int = 1) -> None:
        self.unit = unit

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the size in bytes."""
        if isinstance(value, int):
            return value
        text = str(value)
        return int(text) * self.unit if _is_count(text) else parse_size(_label(param), text)


class Duration(click.ParamType[float]):
    """A duration in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the duration in seconds."""
        return value if isinstance(value, float) else parse_duration(_label(param), str(value))


SIZE = Size()
MEMORY = Size(unit=MIB)
DISK = Size(unit=GIB)
DURATION = Duration()


def in_mib(size: int) -> int:
    """Return a size in whole MiB, rounded up."""
    return -(-size // MIB)


def in_gib(size: int | None) -> int | None:
    """Return a size in whole GiB, rounded up; None stays."""
    return None if size is None else -(-size // GIB)


def environment(entries: tuple[str, ...]) -> dict[str, str]:
    """Return `KEY=VALUE` entries as a mapping; a bare `KEY` takes its value from our own environment.

    Raises:
        InvalidInput: a bare KEY is not set here.
    """
    chosen = {}
    for entry in entries:
        key, separator, value = entry.partition("=")
        if not separator:
            if key not in os.environ:
                raise InvalidInput("--env", key, "it is not set here; write KEY=VALUE, or export it first")
            value = os.environ[key]
        chosen[key] = value
    return chosen


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _label(param: click.Parameter | None) -> str:
    return param.opts[-1] if param is not None else "value"
