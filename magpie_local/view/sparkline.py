"""Small curves of numbers as inline SVG."""

from __future__ import annotations

import math
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from magpie_local.view.plain import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Room at the edges, so that the line is not cut in half there.
_MARGIN = 1.5


def sparkline(
    values: Sequence[float], width: int = 120, height: int = 20, label: str = "", *, top: float | None = None
) -> str:
    """Return a curve as an inline SVG of `width` by `height` pixels.

    Args:
        values: The samples, evenly spaced, the oldest first. What is no finite number is drawn as 0.
        width: Pixels; more samples than a third of them are gathered, of each group the largest is drawn.
        height: Pixels.
        label: What the curve tells, for those who can't see it and as a tooltip.
        top: The value at the upper edge; the largest sample where it is larger, or where none is given.
    """
    samples = _gathered([value if math.isfinite(value) and value > 0 else 0.0 for value in values], max(2, width // 3))
    highest = max([top or 0.0, *samples]) or 1.0
    right, bottom = width - _MARGIN, height - _MARGIN
    across = (right - _MARGIN) / max(1, len(samples) - 1)
    points = [
        (_MARGIN + number * across, bottom - (bottom - _MARGIN) * (value / highest))
        for number, value in enumerate(samples)
    ]
    first, last = (points[0][1], points[-1][1]) if points else (bottom, bottom)
    # The curve goes on beyond both edges and around below: what is below it is filled, and no edge is drawn.
    out = 9
    whole = [(-out, height + out), (-out, first), *points, (width + out, last), (width + out, height + out)]
    line = " ".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in whole)
    named = escape(one_line(label, 200))
    return (
        f"<svg class='ms' role='img' aria-label='{named}' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}'><title>{named}</title><polyline points='{line}' fill='currentColor' "
        "fill-opacity='.15' stroke='currentColor' stroke-width='1.5' stroke-linejoin='round'/></svg>"
    )


def _gathered(values: list[float], most: int) -> list[float]:
    """Return at most `most` values, each the largest of its group: a peak is never lost."""
    count = len(values)
    if count <= most:
        return values
    edges = [number * count // most for number in range(most + 1)]
    return [max(values[start:end]) for start, end in pairwise(edges)]
