"""The Sleepers port on libvirt: VMs go to a file, and come back from it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from magpie_local.errors import HostError, HypervisorTimeout, SnapshotUnusable
from magpie_local.hypervisor.channel import ChannelLost, LibvirtError
from magpie_local.hypervisor.files import make_new
from magpie_local.hypervisor.host.sleeping import description
from magpie_local.hypervisor.keepsakes import keep, put_back
from magpie_local.hypervisor.refusals import start_error

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.vm import StartTimes
    from magpie_local.hypervisor.adapter import LibvirtHypervisor

#: Seconds for a save or load of the smallest VM, and MiB of memory that even a slow disk takes in a further one.
_PATIENCE, _PACE = 120.0, 10


class LibvirtSleepers:
    """What can be done so that a VM takes no memory.

    Args:
        hypervisor: whose VMs they are.
    """

    def __init__(self, hypervisor: LibvirtHypervisor) -> None:
        self._hypervisor = hypervisor

    async def visitors(self, vm_id: VmId) -> int:
        """Return how many connections there are through a VM's ssh port.

        Raises:
            HostError, HypervisorTimeout.
        """
        found: int = await self._hypervisor.handle("visitors", vm_id)
        return found

    async def hide(self, vm_id: VmId) -> None:
        """Close a VM's ssh port.

        Raises:
            HostError, HypervisorTimeout.
        """
        await self._hypervisor.handle("hide", vm_id)

    async def save(self, vm_id: VmId, file: Path, memory_mb: int) -> int:
        """Pause a VM for as long as nobody resumes it, and write its state to a new file (0600), synced.

        Beside it, in FILE.d, what its disks lie on is kept (hypervisor.keepsakes).

        Raises:
            HostDiskFull, HostError, HypervisorTimeout: no file is left.
        """
        fresh = file.with_name(f".{file.name}")
        try:
            await asyncio.to_thread(_make_fresh, fresh)
            size: int = await self._hypervisor.handle("save", vm_id, str(fresh), budget=_budget(memory_mb))
            await asyncio.to_thread(_put, fresh, file)
        except HostError:
            await asyncio.to_thread(fresh.unlink, missing_ok=True)
            raise
        return size

    async def load(self, vm_id: VmId, attempt_id: str, file: Path, memory_mb: int) -> StartTimes:
        """Start a VM, paused, where it stood when it was saved.

        Raises:
            SnapshotUnusable: the file is missing or damaged, or does not load here.
            VmExists: this VM is there.
            HostDiskFull, HostError: it could not be started; the file is as it was.
            HypervisorTimeout: the outcome is unknown.
        """
        await asyncio.to_thread(put_back, _kept(file))
        try:
            return await self._hypervisor.bring_back(vm_id, attempt_id, file, _budget(memory_mb))
        except ChannelLost:
            raise HypervisorTimeout(f"libvirt went away while it woke the VM {vm_id}.", hint="") from None
        except LibvirtError as error:
            refusal = start_error(vm_id, error)
            if isinstance(refusal, SnapshotUnusable):
                raise SnapshotUnusable(f"The VM {vm_id} can't be woken: {error}.", hint="") from error
            raise refusal from error


def _budget(memory_mb: int) -> float:
    return _PATIENCE + memory_mb / _PACE


def _make_fresh(path: Path) -> None:
    path.unlink(missing_ok=True)  # of a save that was cut short
    make_new(path)


def _kept(file: Path) -> Path:
    return file.with_name(f"{file.name}.d")


def _put(fresh: Path, file: Path) -> None:
    """Give a whole file its name, once all is kept that it needs."""
    keep(description(os.fspath(fresh)), _kept(file))
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
