"""The hypervisor port. One contract suite (tests/contract) runs against libvirt (both connections) and the fake."""

from __future__ import annotations

from dataclasses import dataclass
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

    async def expose(self, vm_id: VmId, port: int = 0) -> int:
        """Make a VM's ssh reachable; return the port on the host's 127.0.0.1, the same one when asked again.

        With `port` 0 the kernel chooses one.

        It is there as long as the VM, also with no engine alive. Something listens behind it only once the agent was
        told to (GuestServices.open_ssh); the guest reaches nothing of the host by it.

        Raises:
            HostError: there is no such VM, it has no card for it, or somebody else has the port.
            HypervisorTimeout.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """What a disk's own tables say of it."""

    #: Virtual size.
    size_gb: int
    #: Nothing was written to it since it was made: its content is that of the disk below.
    untouched: bool


class Disks(Protocol):
    """Disk images on the host; never mounted or repaired here: guests parse their own file systems (F77)."""

    async def overlay(self, path: Path, base: Disk, *, size_gb: int | None = None, beside: bool = False) -> None:
        """Create a copy-on-write image at `path` (0600) whose content is `base` until written.

        Args:
            path: where; an empty file may be there.
            base: what lies below; never written to.
            size_gb: virtual size, at least that of `base`; None is that of `base`.
            beside: name the base by its file name alone: both lie in one folder, which may be moved. Also synced.

        Raises:
            HostDiskFull, HostError.
        """
        ...

    async def blank(self, path: Path, size_gb: int) -> None:
        """Create an image at `path` (0600) with an empty ext4 file system, synced; an empty file may be there.

        Raises:
            HostDiskFull, HostError.
        """
        ...

    async def resize(self, path: Path, size_gb: int) -> None:
        """Grow an image that nobody uses, synced; one that has the size already is fine. Its file system stays.

        Raises:
            HostDiskFull, HostError (it would shrink), WorkspaceDamaged.
        """
        ...

    async def export(self, head: Path, target: Path, *, compress: bool = False) -> None:
        """Write the content of an image that nobody uses to one new file (0600) that needs no other, synced.

        Raises:
            InvalidInput: there is something at `target`.
            HostDiskFull, HostError.
        """
        ...

    async def import_(self, source: Path, target: Path) -> int:
        """Copy a file that nobody vouches for (F83) to an image at `target` (0600), synced.

        Returns its virtual size in GiB, rounded up. Where it fails, `target` may hold anything.

        Raises:
            InvalidInput: it is no self-contained image with an ext4 file system.
            HostDiskFull, HostError.
        """
        ...

    async def inspect(self, chain: Sequence[Path]) -> DiskFacts:
        """Look at an image and all that it lies on, topmost first; quick, and opens no other file.

        Raises:
            WorkspaceDamaged: one is missing, empty, cut off, foreign, or lies on something else; names it.
            HostError: one can't be read.
        """
        ...

    async def check(self, path: Path) -> int:
        """Look at all tables of an image that nobody uses, and mend leaks (F75); return how many there were.

        Raises:
            WorkspaceDamaged: it is corrupt.
            HostError.
        """
        ...
