"""The clock port: so that tests own the time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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


class SystemClock:
    """The host's clocks."""

    def now(self) -> float:
        """Return the wall clock, seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back; meaningless in another process."""
        return time.monotonic()

    def boot_id(self) -> str:
        """Return the kernel's random identity of this boot."""
        return _BOOT_ID.read_text().strip()
