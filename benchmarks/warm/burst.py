"""Fifty one-line jobs at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.report import Figure, number, spread

if TYPE_CHECKING:
    from magpie_local import Magpie

JOBS = 50


def measure(client: Magpie, name: str, *, isolation: str) -> list[Figure]:
    """Submit all at once; return the time until the last has ended, and each one's from its own create() on."""
    began = time.monotonic()
    jobs = [
        client.jobs.create(name=f"burst {number}", script=f"echo {number}", isolation=isolation)
        for number in range(JOBS)
    ]
    ended = [client.jobs.wait(job.id) for job in jobs]
    total = time.monotonic() - began
    lost = [job.id for job in ended if not job.success]
    took = [(job.finished_at - job.created_at).total_seconds() for job in ended if job.finished_at is not None]
    return [
        number(f"{JOBS} jobs at once, {name}: all ended after", total, "s"),
        spread(f"{JOBS} jobs at once, {name}: each, accepted to ended", took, "s"),
        number(f"{JOBS} jobs at once, {name}: lost", len(lost), "jobs", goal="0"),
    ]
