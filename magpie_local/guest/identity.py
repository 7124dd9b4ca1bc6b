"""Fresh identities for VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain import identity

if TYPE_CHECKING:
    from magpie_local.domain.identity import Identity
    from magpie_local.domain.ids import VmId


def new_identity(vm_id: VmId) -> Identity:
    """Return a fresh identity for a VM, with an SSH host key of its own. It may take a moment: call it in a thread."""
    private, public = _host_key()
    return identity.new_identity(vm_id, private, public)


def _host_key() -> tuple[str, str]:
    """Return a new Ed25519 key: the private half in OpenSSH's format, and the public half as one line."""
    from cryptography.hazmat.primitives import serialization  # a tenth of a second: not for whoever needs no VM
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()
