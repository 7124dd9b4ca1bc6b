"""Where each millisecond of a start goes: noted in the job's story, read by the benchmarks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from magpie_local.domain.vm import StartTimes

if TYPE_CHECKING:
    from magpie_local.ports.guest import Launch
    from magpie_local.ports.store import Detail


class StartSpans:
    """A stopwatch for one VM's way from the hypervisor's call to the script's start; all spans in milliseconds."""

    def __init__(self, times: StartTimes | None = None) -> None:
        self._times = times or StartTimes(create=0.0)
        self._lap = time.monotonic()
        self._settle = 0.0
        self._parts: dict[str, float] = {}

    def ready(self) -> Detail:
        """Return the spans up to the agent's first answer, which is now."""
        hello = self._next()
        times = self._times
        return _milliseconds(create=times.create, load=times.load, resume=times.resume, hello=hello)

    def settled(self) -> None:
        """Note that the guest has taken up its identity."""
        self._settle = self._next()

    def prepared(self, part: str) -> None:
        """Note that a part that only some jobs have is done: mount, door."""
        self._parts[part] = self._next()

    def started(self, launch: Launch | None) -> Detail:
        """Return the spans up to the word that the script runs, which is now; none where it was started before."""
        if launch is None:
            return {}
        # What the guest did itself; the rest is the way there and back.
        handover = self._next() - launch.renew - launch.spawn
        return _milliseconds(
            settle=self._settle, **self._parts, renew=launch.renew, spawn=launch.spawn, handover=handover
        )

    def _next(self) -> float:
        before, self._lap = self._lap, time.monotonic()
        return self._lap - before


def _milliseconds(**spans: float) -> Detail:
    return {f"{name}_ms": round(1000 * seconds, 1) for name, seconds in spans.items()}
