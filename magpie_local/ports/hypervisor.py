"""The hypervisor port. One contract suite (tests/contract) runs against libvirt (both connections) and the fake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.vm import Disk, Features, VmSight, VmSpec


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

    async def start(self, spec: VmSpec) -> None:
        """Start a VM; returns when it runs (not when its guest has booted).

        Raises:
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


class Disks(Protocol):
    """Disk images on the host; never mounted or repaired here: guests parse their own file systems (F77)."""

    async def overlay(self, path: Path, base: Disk) -> None:
        """Create a copy-on-write image at `path` (0600) whose content is `base` until written.

        Raises:
            HostDiskFull, HostError.
        """
        ...
