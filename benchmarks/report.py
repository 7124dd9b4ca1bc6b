"""What every benchmark prints: a table for people, JSON for tools."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured thing: a spread of times, or one number."""

    name: str
    unit: str
    p50: float
    p95: float | None = None
    p99: float | None = None
    #: What the issue asks for, as text.
    goal: str = ""
    #: Why there is no figure.
    reason: str = ""


def times(name: str, seconds: Sequence[float], *, goal: str = "") -> Figure:
    """Return the spread of durations, in milliseconds."""
    return spread(name, [1000 * one for one in seconds], "ms", goal=goal)


def spread(name: str, values: Sequence[float], unit: str, *, goal: str = "") -> Figure:
    """Return the spread of measured values."""
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    return Figure(name=name, unit=unit, p50=cuts[49], p95=cuts[94], p99=cuts[98], goal=goal)


def number(name: str, value: float, unit: str, *, goal: str = "") -> Figure:
    """Return one number."""
    return Figure(name=name, unit=unit, p50=value, goal=goal)


def missing(name: str, reason: str) -> Figure:
    """Return the place of a figure that could not be had."""
    return Figure(name=name, unit="", p50=math.nan, reason=reason)


def report(title: str, figures: Sequence[Figure], *, json_file: Path | None = None) -> None:
    """Print the table, and write the JSON where asked."""
    width = max(len(figure.name) for figure in figures)
    print(f"{title}\n\n{'':{width}}  {'p50':>10} {'p95':>10} {'p99':>10}  unit    goal")
    for figure in figures:
        if figure.reason:
            print(f"{figure.name:{width}}  not measured: {figure.reason}")
            continue
        cells = " ".join(f"{_cell(value):>10}" for value in (figure.p50, figure.p95, figure.p99))
        print(f"{figure.name:{width}}  {cells}  {figure.unit:7} {figure.goal}".rstrip())
    if json_file is not None:
        json_file.write_text(json.dumps({"title": title, "figures": [asdict(figure) for figure in figures]}, indent=2))


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
