"""A clock that moves when told to."""

from __future__ import annotations


class ManualClock:
    """The Clock port with all three readings in the test's hands."""

    def __init__(self, now: float = 1_700_000_000.0, monotonic: float = 1_000.0, boot_id: str = "boot-1") -> None:
        self._now = now
        self._monotonic = monotonic
        self._boot_id = boot_id

    def now(self) -> float:
        """Return the wall clock, seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the monotonic clock, seconds."""
        return self._monotonic

    def boot_id(self) -> str:
        """Return the identity of the host's present boot."""
        return self._boot_id

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a suspended laptop or a time server does (F15, F16)."""
        self._now += seconds

    def reboot(self, boot_id: str) -> None:
        """Begin another boot: the monotonic clock starts again."""
        self._boot_id = boot_id
        self._monotonic = 0.0
