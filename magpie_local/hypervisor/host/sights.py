"""What libvirt says of a domain, in the words of domain.vm.Condition."""

from __future__ import annotations

from typing import Any

from magpie_local.hypervisor.host import METADATA, NO_METADATA


def seen(domain: Any) -> dict[str, object]:
    """Return one domain's id, condition and metadata."""
    import libvirt

    try:
        metadata = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != NO_METADATA:
            raise
        metadata = None
    state, reason = domain.state()
    return {"vm": domain.UUIDString(), "metadata": metadata, "condition": _condition(state, reason)}


def _condition(state: int, reason: int) -> str:
    import libvirt

    if state == libvirt.VIR_DOMAIN_PAUSED:
        special = {
            libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "starting",
            libvirt.VIR_DOMAIN_PAUSED_IOERROR: "disk_error",
            libvirt.VIR_DOMAIN_PAUSED_CRASHED: "crashed",
        }
        return special.get(reason, "paused")
    ended = {libvirt.VIR_DOMAIN_CRASHED: "crashed", libvirt.VIR_DOMAIN_SHUTOFF: "gone"}
    # A guest that shuts down is running until its process has ended.
    return ended.get(state, "running")


def condition_after(event: int, detail: int) -> str | None:
    """Return the condition that an event of libvirt's means (domain.vm.Condition); None where it means none."""
    import libvirt

    if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
        return "disk_error" if detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR else "paused"
    plain = {
        libvirt.VIR_DOMAIN_EVENT_STARTED: "running",
        libvirt.VIR_DOMAIN_EVENT_RESUMED: "running",
        libvirt.VIR_DOMAIN_EVENT_CRASHED: "crashed",
        libvirt.VIR_DOMAIN_EVENT_STOPPED: "gone",
    }
    return plain.get(event)
