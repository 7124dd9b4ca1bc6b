"""What goes on with a VM that stays after its script: it is left alone, sleeps when nobody uses it, wakes for use."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from magpie_local.domain.states import EventKind, VmState, Wish
from magpie_local.domain.vm import Condition
from magpie_local.engine.sleep import Sleep
from magpie_local.engine.teardown import destroy
from magpie_local.errors import HostDiskFull, HostError, MagpieError, SnapshotUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.job import JobRecord
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger
    from magpie_local.engine.line import GuestLine

    #: Says why a VM can't have its memory back now; None where it can.
    Room = Callable[[JobRecord], str | None]

#: Seconds until a wake that failed is tried again, and between looks whether a doorbell is still there.
_RETRY, _LOOK = 2.0, 5.0


class Keeping:
    """One VM that is kept. `look` is called again and again, at each news and at least once a second.

    Args:
        ports: the world.
        ledger: its attempt.
        line: to its agent.
        files: the attempt's.
        room: asked before it wakes.
    """

    def __init__(self, ports: Ports, ledger: Ledger, line: GuestLine, files: AttemptFiles, room: Room) -> None:
        self._ports = ports
        self._ledger = ledger
        self._room = room
        self._sleep = Sleep(ports, ledger, line, files)
        #: When it was last in use, as far as is known; at first: when it began to be kept.
        self._used_at: float | None = None
        self._look_at = self._retry_at = 0.0
        self._told = ""
        #: It may stand still though it was not put to sleep.
        self._stands = False
        #: It comes back: from now on it counts as one that is there.
        self.wakes = False
        #: It can never be woken again.
        self.lost = False

    @property
    def asleep(self) -> bool:
        """Whether there is no VM now."""
        return self._ledger.job.vm_state is VmState.ASLEEP

    async def adopt(self, condition: Condition) -> None:
        """Take over from an earlier engine, which may have been in the middle of something.

        Raises:
            HostError: the VM can't go on.
        """
        if self.asleep:
            await destroy(self._ports.hypervisor, self._ledger.attempt.vm_id)
        elif self._ledger.job.vm_state is VmState.READY and (
            condition is Condition.PAUSED or await self._sleep.was_begun()
        ):
            await self._sleep.go_on()

    async def look(self) -> bool:
        """Do what is due; return whether anything has changed."""
        if self.asleep:
            await self._look_after_doorbell()
        wish = await self._wish()
        if self.asleep:
            return wish is Wish.WAKE and await self._wake()
        if self._ledger.job.vm_state is not VmState.READY or (self._stands and not await self._go_on()):
            return False
        if wish is Wish.WAKE:
            await self._ledger.record(EventKind.VM_REACHABLE)
            self._used_at = self._ports.clock.monotonic()
        return (wish is Wish.SLEEP or await self._is_idle()) and await self._fall_asleep()

    async def rouse(self) -> bool:
        """Wake it for a clean end, where it has a workspace: what it has not written there yet is in its memory.

        Returns:
            Whether it has woken.
        """
        if not self.asleep or self.lost or self._ledger.job.workspace_id is None:
            return False
        try:
            await self._sleep.end()
        except MagpieError as error:
            await self._ledger.note(f"it could not be woken for a clean end: {error.message}")
            return False
        return True

    async def _wish(self) -> Wish | None:
        """Return what is asked for now: others write it, so the row is read."""
        job = await self._ports.jobs.get(self._ledger.job.id)
        return None if job is None else job.wish

    async def _is_idle(self) -> bool:
        limit = self._ledger.job.idle_pause
        if limit is None:
            return False
        now, used = self._ports.clock.monotonic(), True
        with contextlib.suppress(HostError):
            used = await self._ports.sleepers.visitors(self._ledger.attempt.vm_id) > 0
        if used or self._used_at is None:
            self._used_at = now
        return now - self._used_at >= limit

    async def _fall_asleep(self) -> bool:
        try:
            await self._sleep.begin()
        except (HostDiskFull, HostError) as error:
            self._used_at, self._stands = self._ports.clock.monotonic(), True
            await self._ledger.record(EventKind.SLEEP_FAILED, {"text": error.message})
            return await self._go_on()
        self._told, self._look_at, self._retry_at = "", 0.0, 0.0
        return True

    async def _go_on(self) -> bool:
        """Have a VM that could not be put to sleep be as before; return whether that worked."""
        try:
            await self._sleep.go_on()
        except HostError as error:
            await self._tell(f"it can't go on yet: {error.message}")
            return False
        self._stands = False
        return True

    async def _wake(self) -> bool:
        now = self._ports.clock.monotonic()
        if now < self._retry_at:
            return False
        if reason := self._room(self._ledger.job):
            await self._tell(reason)
            return False
        self.wakes = True
        try:
            await self._sleep.end()
        except SnapshotUnusable as error:
            self.lost = True
            await self._ledger.note(error.message)
        except (HostDiskFull, HostError) as error:
            if not self.asleep:
                raise  # it has woken, and can't be reached: as after a crash, all is tried again
            self._retry_at, self._look_at = now + _RETRY, 0.0
            await self._tell(f"it can't be woken yet: {error.message}")
            return False
        finally:
            self.wakes = False
        self._used_at = self._ports.clock.monotonic()
        return True

    async def _tell(self, text: str) -> None:
        """Tell once of what lasts."""
        if text.partition(":")[0] != self._told:
            self._told = text.partition(":")[0]
            await self._ledger.note(text)

    async def _look_after_doorbell(self) -> None:
        """Have one that listens: it ends with the host, or may be killed."""
        now = self._ports.clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK
        try:
            await self._sleep.hang_doorbell()
        except HostError as error:
            await self._tell(f"ssh does not wake it: {error.message}")
