"""What tells one VM from another: forks of one template would be twins without it (neighbours.md 2.8).

Each VM gets an Identity once, before its script, and a Renewal right before the script's first instruction.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId

#: Bytes of randomness in a Renewal: twice what the kernel's generator holds.
ENTROPY_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a VM is."""

    hostname: str
    #: 32 hexadecimal digits, as in /etc/machine-id.
    machine_id: str
    #: Stands in for the kernel's boot id, which is the template's in every fork.
    boot_id: str
    mac: str
    #: A private Ed25519 key in OpenSSH's format.
    host_key: str = field(repr=False)
    #: Its public half, one line.
    host_key_public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What goes stale while a VM is frozen or paused."""

    #: Wall clock, seconds since the epoch.
    now: float
    #: Fresh randomness of the host.
    entropy: bytes = field(repr=False)


def new_identity(vm_id: VmId, host_key: str, host_key_public: str) -> Identity:
    """Return the identity of a VM: names follow from its id, the rest is random."""
    return Identity(
        hostname=f"magpie-{vm_id[:8]}",
        machine_id=uuid.uuid4().hex,
        boot_id=str(uuid.uuid4()),
        mac=mac_of(vm_id),
        host_key=host_key,
        host_key_public=host_key_public,
    )


def mac_of(vm_id: VmId) -> str:
    """Return the address of a VM's network card: locally administered, QEMU's prefix, the rest from its id."""
    digest = hashlib.sha256(vm_id.encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])
