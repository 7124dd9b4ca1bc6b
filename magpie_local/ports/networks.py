"""The networks port: what is behind a running VM's card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.network import GuestConfig


class Networks(Protocol):
    """Connects VMs that run; a VM that was never connected reaches nothing and nobody.

    A connection needs no process of the engine: it lives as long as its VM. After a restart, `attach_…` of a VM that
    is connected as asked is quick and changes nothing; it only makes the VM known to `mend`.
    """

    async def expect_default(self) -> GuestConfig:
        """Return what `attach_default` would at this moment, which is the same for all VMs.

        Raises:
            NetworkUnavailable.
        """
        ...

    async def attach_default(self, vm_id: VmId) -> GuestConfig:
        """Connect a VM with the internet, and return what its guest must be told.

        The guest reaches neither this machine nor another VM, whatever it sends; and no private range and none of this
        machine's neighbours, but those that the settings name. Where this machine has no way out itself, the VM is
        connected to nothing, and the configuration holds no address.

        Raises:
            NetworkUnavailable: what it takes is missing or does not work here; with the cure.
            HostError: there is no such VM.
        """
        ...

    async def attach_private(self, vm_id: VmId, network: str) -> None:
        """Connect a VM with all others of this state directory that are attached to `network`, and nobody else.

        The configuration of its guest follows from domain.network alone (`private_config`).

        Raises:
            NetworkUnavailable, HostError.
        """
        ...

    async def detach(self, vm_id: VmId) -> None:
        """Connect a running VM to nothing; twice is as good as once.

        Raises:
            HostError: there is no such VM.
        """
        ...

    async def forget(self, vm_id: VmId) -> None:
        """Remove what is left of a VM that has gone. One that was never attached: nothing."""
        ...

    async def mend(self) -> Sequence[VmId]:
        """Attach again what was attached and is connected to nothing: its process was killed. Return those VMs.

        A VM that can't be mended, or has gone, is left for the next time.
        """
        ...

    async def sweep(self, alive: Collection[VmId]) -> None:
        """Remove what earlier engines left of VMs that are not `alive`, and of networks that nobody uses."""
        ...
