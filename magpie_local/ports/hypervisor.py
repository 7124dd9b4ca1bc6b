"""The hypervisor port. One contract suite (tests/contract) runs against libvirt (both connections) and the fake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.vm import Disk, Features, StartTimes, VmSight, VmSpec


class Hypervisor(Protocol):
    """Starts and ends VMs. Only the leader opens it.

    VMs outlive the object and its process: a later `open` on the same place finds them again. No call ever blocks
    the event loop, and each
    has a time budget; past it HypervisorTimeout is raised and the outcome is unknown (ask `sight`).
    """

    async def open(self) -> Features:
        """Connect, and prove which accelerator works. Opening an open one returns the same features.

        Raises:
            HypervisorUnavailable: with the cure.
        """
        ...

    async def close(self) -> None:
        """Disconnect; VMs go on. Closing a closed one is nothing."""
        ...

    async def start(self, spec: VmSpec) -> StartTimes:
        """Start a VM; returns when it runs (not when its guest has booted; a fork's guest is as its template's was).

        Where a fork can't be started, nothing of it is left.

        Raises:
            SnapshotUnusable: the snapshot's files are missing or do not load here.
            VmExists: this id was started before and has not gone.
            HostDiskFull: no room for its files.
            HypervisorUnavailable, HypervisorTimeout.
        """
        ...

    async def destroy(self, vm_id: VmId) -> None:
        """End a VM at once; returns when it has gone. A VM that is not there is gone already: no error."""
        ...

    async def sight(self, vm_id: VmId) -> VmSight:
        """Return what is known of one VM; condition GONE where there is none. Never raises for a missing VM (F51)."""
        ...

    async def sights(self) -> Sequence[VmSight]:
        """Return all VMs that carry this state directory's id in their metadata; never a foreign one."""
        ...

    def watch(self, callback: Callable[[VmSight], None]) -> None:
        """Call `callback` on the event loop at each change. Events can be lost: the engine polls as well (F53)."""
        ...


class LiveVms(Protocol):
    """What can be done to a running VM; implemented beside Hypervisor, on its connection."""

    async def pause(self, vm_id: VmId) -> None:
        """Stop a VM's CPUs; no time passes in it. Pausing a paused one is nothing.

        Raises:
            HostError: there is no such VM, or it can't be paused.
            HypervisorTimeout.
        """
        ...

    async def resume(self, vm_id: VmId) -> None:
        """Let a paused VM go on; from now on it outlives the engine (VmSpec.held). Resuming a running one is nothing.

        Raises:
            HostError: there is no such VM, or it can't go on.
            HypervisorTimeout.
        """
        ...

    async def freeze(self, vm_id: VmId, devices: Path) -> None:
        """Pause a VM whose memory is in a RamFile for good, and write its device state to a new file (0600).

        Afterwards the file and its RamFile are a Snapshot, its disks stand at the same instant, and all are synced.
        All that is left to do with the VM is to destroy it.

        Raises:
            HostDiskFull, HostError, HypervisorTimeout.
        """
        ...

    async def plug(self, vm_id: VmId, disk: Disk) -> None:
        """Give a running VM one more disk: its next virtio disk.

        Raises:
            HostError: there is no such VM, no slot left, or the disk can't be opened.
            HypervisorTimeout.
        """
        ...


class Disks(Protocol):
    """Disk images on the host; never mounted or repaired here: guests parse their own file systems (F77)."""

    async def overlay(self, path: Path, base: Disk) -> None:
        """Create a copy-on-write image at `path` (0600) whose content is `base` until written.

        Raises:
            HostDiskFull, HostError.
        """
        ...
