"""The clock port: so that tests own the time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall clock for records, monotonic clock for durations inside one process (F16)."""

    def now(self) -> float:
        """Return the wall clock, seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; meaningless in another process."""
        ...

    def boot_id(self) -> str:
        """Return the identity of the host's present boot (F17)."""
        ...
