"""Networks of VMs that are none: processes of this machine, which has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.network import GuestConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from magpie_local.domain.ids import VmId


class FakeNetworks:
    """The Networks port: notes who is attached where, and connects nothing."""

    def __init__(self) -> None:
        #: The network of each VM that was attached.
        self.attached: dict[VmId, str] = {}

    async def expect_default(self) -> GuestConfig:
        """Return that there is nothing to set up."""
        return GuestConfig()

    async def attach_default(self, vm_id: VmId) -> GuestConfig:
        """Note it."""
        self.attached[vm_id] = "default"
        return GuestConfig()

    async def attach_private(self, vm_id: VmId, network: str) -> None:
        """Note it."""
        self.attached[vm_id] = network

    async def detach(self, vm_id: VmId) -> None:
        """Note it."""
        self.attached.pop(vm_id, None)

    async def forget(self, vm_id: VmId) -> None:
        """Note it."""
        self.attached.pop(vm_id, None)

    async def mend(self) -> Sequence[VmId]:
        """Nothing breaks here."""
        return []

    async def sweep(self, alive: Collection[VmId]) -> None:
        """Forget those that are not alive."""
        self.attached = {vm_id: network for vm_id, network in self.attached.items() if vm_id in alive}
