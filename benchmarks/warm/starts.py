"""Starts side by side: one of each kind in turn, so that a drift of the machine hits all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable
from benchmarks.report import Figure, missing, spread
from benchmarks.warm.bench import first_output, wait_for_pool
from benchmarks.warm.spans import spans_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.references import Reference
    from magpie_local import Magpie

#: Jobs of ours, by how they start, and what the issue asks of each against a cold start.
KINDS = {"pool": ">= 20 x", "fork": ">= 5 x", "cold": ""}


@dataclass
class Starts:
    """What was measured: seconds by kind, and the spans of each start."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    spans: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def figures(self) -> list[Figure]:
        """Return the spread of each kind, and of the ratios to the cold start of the same round."""
        figures = [spread(f"{kind} start", self.seconds[kind], "s") for kind in KINDS]
        for kind, goal in KINDS.items():
            if goal:
                pairs = zip(self.seconds["cold"], self.seconds[kind], strict=True)
                figures.append(spread(f"cold / {kind}", [cold / warm for cold, warm in pairs], "x", goal=f"p50 {goal}"))
        pool = spread("", self.seconds["pool"], "s")
        assert pool.p99 is not None
        figures.append(spread("pool: p99 / p50", [pool.p99 / pool.p50], "x", goal="<= 2"))
        return figures


def measure(pooled: Magpie, forking: Magpie, count: int) -> Starts:
    """Start `count` jobs of each kind in turn."""
    starts = Starts()
    for _ in range(count):
        wait_for_pool(pooled)
        _one(starts, pooled, "pool")
        wait_for_pool(pooled)  # it refills behind the job, and must not disturb the next
        _one(starts, forking, "fork")
        _one(starts, forking, "cold", isolation="private")
    return starts


def references(wanted: Sequence[tuple[Reference, int]]) -> list[Figure]:
    """Measure other ways to start a guest, each as often as its number says."""
    figures = []
    for reference, count in wanted:
        try:
            reference.prepare()
            figures.append(spread(reference.name, [reference.start_seconds() for _ in range(count)], "s"))
        except ReferenceUnavailable as error:
            figures.append(missing(reference.name, str(error)))
    return figures


def _one(starts: Starts, client: Magpie, kind: str, isolation: str = "shared") -> None:
    seconds, job_id = first_output(client, kind, isolation=isolation)
    starts.seconds[kind].append(seconds)
    starts.spans[kind].append(spans_of(client.jobs.story(job_id), seconds))
    client.jobs.delete(job_id, force=True)
