"""Connects the cards of VMs that libvirt runs, through QEMU's monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId
    from magpie_local.hypervisor.adapter import LibvirtHypervisor


class LibvirtLinker:
    """What VmNetworks needs of the hypervisor."""

    def __init__(self, hypervisor: LibvirtHypervisor) -> None:
        self._hypervisor = hypervisor

    async def linked(self, vm_id: VmId) -> str | None:
        """Return the socket that a VM's card is connected to; None where it is to nothing, or no more."""
        found: str | None = await self._hypervisor.handle("linked", vm_id)
        return found

    async def link(self, vm_id: VmId, path: str) -> None:
        """Connect the card to a socket in QEMU's stream format, and to nothing else."""
        await self._hypervisor.handle("link", vm_id, path)

    async def unlink(self, vm_id: VmId) -> None:
        """Connect the card to nothing; twice is as good as once."""
        await self._hypervisor.handle("unlink", vm_id)
