"""Where each millisecond of a start goes, by the job's own story."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import Figure, spread
from magpie_local.domain.states import EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.domain.job import Event

#: In their order. Those that a kind of start does not have stay 0.
SPANS = ("submit and claim", "prepare", "create", "load", "resume", "hello", "settle", "renew", "spawn", "handover")
_REST = "first byte to reader, and the rest"


def spans_of(story: Sequence[Event], total: float) -> dict[str, float]:
    """Return the milliseconds of each span of a start that took `total` seconds."""
    at = {event.kind: event.time for event in story}
    detail: dict[str, float] = {}
    for event in story:
        detail |= {name[:-3]: float(value or 0) for name, value in event.detail.items() if name.endswith("_ms")}
    spans = {name: detail.get(name, 0.0) for name in SPANS}
    spans["submit and claim"] = 1000 * (at[EventKind.CLAIMED] - at[EventKind.ACCEPTED])
    spans["prepare"] = 1000 * (at[EventKind.VM_BOOTING] - at[EventKind.CLAIMED])
    spans[_REST] = 1000 * total - sum(spans.values())
    return spans


def figures(kind: str, starts: Sequence[dict[str, float]]) -> list[Figure]:
    """Return the spread of each span over the starts of one kind."""
    return [spread(f"{kind}: {name}", [one[name] for one in starts], "ms") for name in (*SPANS, _REST)]
