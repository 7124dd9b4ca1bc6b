"""SSH connections to VMs, one for each, kept while this process uses them and for a while after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.ports.shell import LINGER

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import JobRecord
    from magpie_local.ports.doors import Door
    from magpie_local.ports.shell import Shell, Shells

#: A connection is closed when nobody has used it for this part of the time after which its VM sleeps.
_OF_THE_PAUSE = 0.25


def linger_of(idle_pause: float | None) -> float:
    """Return for how long a connection may be unused, seconds; `idle_pause` is when its VM sleeps, None is never."""
    return LINGER if idle_pause is None else min(LINGER, _OF_THE_PAUSE * idle_pause)


class ShellCache:
    """Open shells by job.

    Args:
        shells: opens them.
    """

    def __init__(self, shells: Shells) -> None:
        self._shells = shells
        self._open: dict[JobId, tuple[Door, Shell]] = {}
        self._locks: dict[JobId, asyncio.Lock] = {}

    async def get(self, job: JobRecord, door: Door) -> Shell:
        """Return the shell that leads through the job's `door`; an earlier VM's is closed.

        Raises:
            SshError: the VM can't be reached.
        """
        async with self._locks.setdefault(job.id, asyncio.Lock()):
            known = self._open.get(job.id)
            if known is not None and known[0] == door:
                return known[1]
            if known is not None:
                del self._open[job.id]
                await known[1].close()
            shell = await self._shells.connect(door.target, linger=linger_of(job.idle_pause))
            self._open[job.id] = door, shell
            return shell

    async def close(self) -> None:
        """Close all."""
        shells = [shell for _, shell in self._open.values()]
        self._open.clear()
        await asyncio.gather(*(shell.close() for shell in shells), return_exceptions=True)
