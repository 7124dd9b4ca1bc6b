"""The ports of sleeping VMs: how one goes to a file and comes back, and who opens when somebody knocks meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.vm import StartTimes


class Sleepers(Protocol):
    """Puts VMs to files, and brings them back; implemented beside Hypervisor, on its connection."""

    async def visitors(self, vm_id: VmId) -> int:
        """Return how many connections there are through the port that `expose` gave a VM.

        Raises:
            HostError: there is no such VM.
            HypervisorTimeout.
        """
        ...

    async def hide(self, vm_id: VmId) -> None:
        """Close that port, with all connections through it; twice is as good as once. `expose` opens it again.

        Raises:
            HostError: there is no such VM.
            HypervisorTimeout.
        """
        ...

    async def save(self, vm_id: VmId, file: Path, memory_mb: int) -> int:
        """Pause a VM and write all of it, memory and devices, to a new file (0600); return the file's size.

        The VM must be hidden, and connected to nothing (Networks.detach). The file is on the disk then, whole, and
        needs no other but the VM's disks and what is kept beside it, in FILE.d: an image or a template that the disks
        lie on may be removed meanwhile. Either the VM is destroyed, and may be loaded; or it is resumed, and the
        file is worth nothing: never both.

        Raises:
            HostDiskFull, HostError: the VM is paused, at most; nothing of the file is left.
            HypervisorTimeout: likewise, but that the file may appear.
        """
        ...

    async def load(self, vm_id: VmId, attempt_id: str, file: Path, memory_mb: int) -> StartTimes:
        """Start a VM where a file says that it stood, paused; the file stays.

        Raises:
            SnapshotUnusable: the file is missing, damaged, or does not load here; it never will.
            VmExists: the VM is there.
            HostDiskFull, HostError: it could not be started now; nothing of it is left.
            HypervisorTimeout: the outcome is unknown.
        """
        ...


class Doorbells(Protocol):
    """A doorbell listens at the port of a VM that sleeps, for as long as that takes, and needs nobody to be alive.

    Whoever connects there and says something has the VM woken, and is then passed on to it.
    """

    async def hang(self, vm_id: VmId, job_id: JobId, port: int) -> int:
        """Have one listen for a VM, and return the port: `port`, or another one where somebody else has that.

        Where there is one already, nothing changes.

        Raises:
            HostError: it can't be started.
        """
        ...

    async def make_way(self, vm_id: VmId) -> None:
        """Close its port, so that the VM itself can have it, and have all who wait passed on. None there: nothing."""
        ...

    async def remove(self, vm_id: VmId) -> None:
        """End it, and send away all who wait. None there: nothing."""
        ...
