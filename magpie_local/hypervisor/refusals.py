"""What libvirt refuses, in words that name the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.errors import HostDiskFull, HostError, SnapshotUnusable, VmExists
from magpie_local.hypervisor.domain_xml import PLUGGABLE_DISKS
from magpie_local.hypervisor.host import BAD_SNAPSHOT

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId
    from magpie_local.hypervisor.channel import LibvirtError

#: What a verb of the host does to a VM, where its name is no such word.
_DOING = {
    "disks": "add a disk to", "plug": "add a disk to", "expose": "open a port to", "link": "connect",
    "linked": "look at the network of", "unlink": "disconnect", "hide": "close the port of",
    "visitors": "look at the connections of",
}  # fmt: skip


def doing(verb: str) -> str:
    """Return what one of the host's verbs does to a VM."""
    return _DOING.get(verb, verb)


def start_error(vm_id: VmId, error: LibvirtError) -> HostError | HostDiskFull:
    """Return why a VM was not started."""
    text = str(error)
    if "already exists" in text or "already active" in text:
        return VmExists(f"The VM {vm_id} was started before.", hint="")
    if "No space left" in text:
        return HostDiskFull(f"There is no room to start a VM: {text}.")
    if error.code == BAD_SNAPSHOT:
        return SnapshotUnusable(f"The snapshot does not load: {text}.", hint="")
    return HostError(f"libvirt could not start the VM: {text}.", hint="Run `magpie doctor`.")


def handle_error(verb: str, vm_id: VmId, error: LibvirtError) -> HostError | HostDiskFull:
    """Return why something was not done to a VM."""
    what, text = doing(verb), str(error)
    if "No space left" in text:
        return HostDiskFull(f"There is no room to {what} the VM {vm_id}: {text}.")
    if "No more available PCI slots" in text:
        return HostError(
            f"The VM {vm_id} has no slot left for another disk.",
            hint=f"At most {PLUGGABLE_DISKS} disks can be added to a VM that runs.",
        )
    return HostError(f"libvirt could not {what} the VM {vm_id}: {text}.", hint="")
