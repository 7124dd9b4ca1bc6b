"""SSH connections to VMs, one for each, kept while this process uses them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId
    from magpie_local.ports.doors import Door
    from magpie_local.ports.shell import Shell, Shells


class ShellCache:
    """Open shells by job.

    Args:
        shells: opens them.
    """

    def __init__(self, shells: Shells) -> None:
        self._shells = shells
        self._open: dict[JobId, tuple[Door, Shell]] = {}
        self._locks: dict[JobId, asyncio.Lock] = {}

    async def get(self, job_id: JobId, door: Door) -> Shell:
        """Return the shell that leads through `door`; an earlier VM's is closed.

        Raises:
            SshError: the VM can't be reached.
        """
        async with self._locks.setdefault(job_id, asyncio.Lock()):
            known = self._open.get(job_id)
            if known is not None and known[0] == door:
                return known[1]
            if known is not None:
                del self._open[job_id]
                await known[1].close()
            shell = await self._shells.connect(door.target)
            self._open[job_id] = door, shell
            return shell

    async def close(self) -> None:
        """Close all."""
        shells = [shell for _, shell in self._open.values()]
        self._open.clear()
        await asyncio.gather(*(shell.close() for shell in shells), return_exceptions=True)
