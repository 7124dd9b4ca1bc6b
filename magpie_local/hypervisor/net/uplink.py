"""The default network as its VM sees it, and the start of its gate."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from magpie_local.domain.network import GuestConfig
from magpie_local.errors import NetworkUnavailable
from magpie_local.hypervisor.net import policy
from magpie_local.hypervisor.net.start import StartError, listen, start

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.hypervisor.net.host_access import HostAccess

PROGRAM = "passt"
#: Whom root's gates and passts become: a user with no rights and no files.
_NOBODY = "nobody"
#: As on private networks (domain.network.PRIVATE_MTU); passt would take 65520.
_MTU = 9000
#: Where Debian keeps authorities that were added by hand; the agent adds them to the bundle (host_access.GUEST_BUNDLE).
_AUTHORITIES = "/usr/local/share/ca-certificates/magpie-host.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What of the inside a guest of the default network may reach; this machine itself is never among it."""

    #: Private ranges, and the networks that this machine is connected to.
    lan: bool = False
    #: TCP services, by name or address and port: proxies.
    services: tuple[tuple[str, int], ...] = ()

    def arguments(self) -> list[str]:
        """Return what a gate is told; names are looked up here and now, and those that are unknown left out."""
        found = ["lan"] if self.lan else []
        for host, port in self.services:
            with contextlib.suppress(OSError, UnicodeError):
                known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found += [f"{address[0]}@{port}" for *_, address in known if "%" not in str(address[0])]
        return list(dict.fromkeys(found))


def guest_config(families: str, access: HostAccess | None = None) -> GuestConfig:
    """Return what a guest is told, where there is a way out for the `families` "4", "6", "46" or ""."""
    if not families:
        return GuestConfig()
    addresses, gateways, dns = [], [], []
    if "4" in families:
        addresses.append(f"{policy.ADDRESS4}/{policy.PREFIX4}")
        gateways.append(policy.GATEWAY4)
        dns.append(policy.DNS4)
    if "6" in families:
        addresses.append(f"{policy.ADDRESS6}/{policy.PREFIX6}")
        gateways.append(policy.GATEWAY6)
    plain = GuestConfig(addresses=tuple(addresses), gateways=tuple(gateways), dns=tuple(dns), mtu=_MTU)
    if access is None:
        return plain
    authorities = {_AUTHORITIES: access.certificates.decode("ascii")} if access.certificates else {}
    return replace(plain, authorities=authorities, env=access.env, passwords=access.passwords)


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


def start_gate(path: Path, families: str, inside: Inside) -> None:
    """Start a gate that waits for its VM at the socket `path`; it works when this returns.

    Raises:
        NetworkUnavailable.
    """
    program = passt_path()
    try:
        with listen(path) as listener:
            start("gate", [program, families, _user(), *inside.arguments()], listener)
    except StartError as error:
        raise NetworkUnavailable(
            f"{PROGRAM} does not work here: {error}.",
            hint="It needs user namespaces (sysctl user.max_user_namespaces); or run the job with network='none'.",
        ) from error


def _user() -> str:
    return str(pwd.getpwnam(_NOBODY).pw_uid) if os.geteuid() == 0 else "-"
