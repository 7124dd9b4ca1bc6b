"""The default network as its VM sees it, and the start of its gate."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import TYPE_CHECKING

from magpie_local.domain.network import GuestConfig
from magpie_local.errors import NetworkUnavailable
from magpie_local.hypervisor.net import policy
from magpie_local.hypervisor.net.start import StartError, listen, start

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "passt"
#: Whom root's gates and passts become: a user with no rights and no files.
_NOBODY = "nobody"
#: As on private networks (domain.network.PRIVATE_MTU); passt would take 65520.
_MTU = 9000


def guest_config(families: str) -> GuestConfig:
    """Return what a guest is told, where there is a way out for the `families` "4", "6", "46" or ""."""
    addresses, gateways, dns = [], [], []
    if "4" in families:
        addresses.append(f"{policy.ADDRESS4}/{policy.PREFIX4}")
        gateways.append(policy.GATEWAY4)
        dns.append(policy.DNS4)
    if "6" in families:
        addresses.append(f"{policy.ADDRESS6}/{policy.PREFIX6}")
        gateways.append(policy.GATEWAY6)
    return GuestConfig(addresses=tuple(addresses), gateways=tuple(gateways), dns=tuple(dns), mtu=_MTU)


def passt_path() -> str:
    """Return where passt is installed.

    Raises:
        NetworkUnavailable: it is not.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise NetworkUnavailable(
            f"The default network needs {PROGRAM}, which is not on the PATH.",
            hint=f"apt-get install {PROGRAM}; or run the job with network='none'.",
        )
    return found


def start_gate(path: Path, families: str, *, lan: bool) -> None:
    """Start a gate that waits for its VM at the socket `path`; it works when this returns.

    Raises:
        NetworkUnavailable.
    """
    program = passt_path()
    try:
        with listen(path) as listener:
            start("gate", [program, families, _user(), *(["lan"] if lan else [])], listener)
    except StartError as error:
        raise NetworkUnavailable(
            f"{PROGRAM} does not work here: {error}.",
            hint="It needs user namespaces (sysctl user.max_user_namespaces); or run the job with network='none'.",
        ) from error


def _user() -> str:
    return str(pwd.getpwnam(_NOBODY).pw_uid) if os.geteuid() == 0 else "-"
