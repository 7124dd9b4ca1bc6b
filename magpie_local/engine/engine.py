"""The engine of one process: it leads when it can.

Any number of processes may have an engine on one state directory. Exactly one holds the leader lock and drives; the
others wait for the
lock, and have it within a quarter of a second after it is released or its holder died. All of them use the same
store, and ring each
other's bell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from magpie_local.engine.bell import Bell
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import remove_job
from magpie_local.engine.interrupts import Interrupts
from magpie_local.engine.leader import Leader
from magpie_local.engine.locks import ProcessLock
from magpie_local.engine.warm.wishes import Wishes
from magpie_local.errors import HostError, LeadershipLost, MagpieError

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId
    from magpie_local.engine.context import Options, Ports

_log = logging.getLogger("magpie.engine")

#: How often a follower tries for the leadership, seconds (it must pass on within 1 s).
_CANDIDACY = 0.25
#: After a failure to lead (no libvirt, say), seconds until the next try.
_RETRY = 1.0


class Engine:
    """Leads a state directory, or waits to.

    Args:
        ports: the world.
        options: capacity and patience.
    """

    def __init__(self, ports: Ports, options: Options) -> None:
        self.ports = ports
        self.bell = Bell(ports.layout.bells)
        #: Why this process can't lead, when it tried and failed.
        self.trouble: MagpieError | None = None
        self.wishes = Wishes(ports.layout.templates)
        self.interrupts = Interrupts(ports.layout.interrupts)
        self._options = options
        self._lock = ProcessLock(ports.layout.leader_lock)
        self._life: asyncio.Task[None] | None = None
        self._leading = False

    def __repr__(self) -> str:
        return f"<Engine {self.role} leads {str(self.ports.layout.root)!r}>"

    @property
    def role(self) -> str:
        """`this` where this engine leads, `other` where another process does, else `none`."""
        if self._lock.held:
            return "this"
        return "other" if self._lock.taken_by_other() else "none"

    async def open(self, *, lead: bool = True) -> None:
        """Begin; with `lead` take the leadership as soon as it is free."""
        self.bell.open()
        if lead:
            self._life = asyncio.create_task(self._live(), name="magpie engine")

    async def close(self) -> None:
        """Leave: VMs and their scripts go on, the next leader adopts them."""
        fault_point("close.before")
        if self._life is not None:
            self._life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._life
            self._life = None
        self.bell.close()
        fault_point("close.after")

    async def can_accept(self) -> None:
        """Return once somebody drives this state directory.

        Raises:
            MagpieError: nobody does, and this process can't (libvirt is missing, say).
        """
        while True:
            ring = self.bell.listen()
            if self._leading or self._lock.taken_by_other():
                return None
            if self._life is None:
                return await self._prove()
            if self.trouble is not None:
                raise self.trouble
            await self.bell.wait(ring, 0.05)

    async def work_left(self) -> bool:
        """Whether anything is queued, running or being cleaned up, or a template is wished.

        VMs that are kept need nobody, unless they may fall asleep, or are to wake.
        """
        if await self.ports.jobs.counts() or any(job.is_attended for job, _ in await self.ports.leader.unsettled()):
            return True
        return self._options.warm.templates_size > 0 and bool(await asyncio.to_thread(self.wishes.all))

    async def delete(self, job_id: JobId) -> bool:
        """Delete a settled job with its files, or leave a request to; return whether it is gone."""
        gone = await self.ports.jobs.delete(job_id)
        if gone:
            await asyncio.to_thread(remove_job, self.ports.layout, job_id)
        self.bell.ring()
        return gone

    async def _prove(self) -> None:
        """Show that driving is possible here, without doing it."""
        if not self._lock.acquire():
            return
        try:
            await self.ports.hypervisor.open()
            await self.ports.hypervisor.close()
        finally:
            self._lock.release()

    async def _live(self) -> None:
        while True:
            ring = self.bell.listen()
            pause = _CANDIDACY
            if self._lock.acquire():
                pause = await self._lead()
            await self.bell.wait(ring, pause)

    async def _lead(self) -> float:
        """Lead until that ends, and return how long to stay back after it."""
        leader = Leader(self.ports, self._options, self.bell)
        try:
            await leader.take_over()
            self.trouble, self._leading = None, True
            self.bell.ring()
            await leader.drive()
        except LeadershipLost:
            _log.warning("another process leads now", extra={"action": "leadership_lost"})
        except MagpieError as error:
            self.trouble = error
        except Exception as error:
            # A bug of ours, or a host that fails: it must not end in a state directory that nobody ever drives (I2).
            _log.exception("leading broke", extra={"action": "leading_broke"})
            self.trouble = HostError(f"Jobs can't be driven: {error!r}.")
        finally:
            self._leading = False
            await leader.step_down()
            self._lock.release()
            self.bell.ring()
        return _RETRY
