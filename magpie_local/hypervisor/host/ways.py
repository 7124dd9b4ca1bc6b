"""What is behind a domain's two cards: a network for the job's own, and the way in for ssh."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from magpie_local.hypervisor.host.monitor import SnapshotError, monitor, monitor_text

#: The user-mode network that ssh comes in by, and its place on the hub of the second card.
_SSH_NET, _SSH_PORT = "magpie-ssh", "magpie-ssh-port"
#: How QEMU calls the socket that waits for connections.
_LISTENS = "TCP[HOST_FORWARD]"
#: What connects a VM's card with a network, and its port on the hub that the card hangs on (domain_xml).
_LINK, _LINK_PORT = "magpie-link", "magpie-link-port"
#: Seconds; it takes a few milliseconds.
_LINK_BUDGET = 5.0


def linked(domain: Any) -> str | None:
    """Return the socket that a domain's card is connected to; None where nothing is, or it broke."""
    table = monitor_text(domain, "info network")
    line = next((line for line in table.splitlines() if f"{_LINK}: " in line), "")
    _, unix, path = line.partition("unix:")
    return path.strip() if unix else None


def link(domain: Any, path: str) -> None:
    """Connect a domain's card to the UNIX socket at `path`, in QEMU's stream format, and to nothing else."""
    unlink(domain)
    address = {"type": "unix", "path": path}
    monitor(domain, "netdev_add", type="stream", id=_LINK, server=False, addr=address)
    monitor(domain, "netdev_add", type="hubport", id=_LINK_PORT, hubid=0, netdev=_LINK)
    give_up = time.monotonic() + _LINK_BUDGET
    # QEMU connects in the background, and tells of a failure in this table only.
    while linked(domain) != path:
        if time.monotonic() > give_up:
            unlink(domain)
            raise SnapshotError(f"nothing answers at {path}")
        time.sleep(0.002)


def unlink(domain: Any) -> None:
    """Connect a domain's card to nothing."""
    for backend in (_LINK_PORT, _LINK):
        # QEMU refuses what is not there.
        with contextlib.suppress(SnapshotError):
            monitor(domain, "netdev_del", id=backend)


def expose(domain: Any, net: str, guest: str, port: int, wish: int) -> int:
    """Have QEMU pass a loopback port of the host on to `guest`:`port`, by the domain's second card; return the port.

    It is `wish` unless that is 0, or there is another already.
    """
    found = _forwarded(domain)
    if found is None:
        _add_ways(domain, net, f"{wish}-{guest}:{port}")
        found = _forwarded(domain)
    if found is None:
        raise SnapshotError("QEMU forwards no port")
    return found


def hide(domain: Any) -> None:
    """Take the network of the second card away, with all connections; twice is as good as once."""
    for name in (_SSH_PORT, _SSH_NET):
        with contextlib.suppress(SnapshotError):
            monitor(domain, "netdev_del", id=name)


def visitors(domain: Any) -> int:
    """Return how many connections there are through the forwarded port."""
    lines = _of_ssh(domain)
    return sum(words[0].startswith("TCP[") and words[0] != _LISTENS for words in lines)


def _add_ways(domain: Any, net: str, forward: str) -> None:
    """Connect the hub of a domain's second card with a user-mode network; what an earlier try left is made anew."""
    hide(domain)
    prefix = net.rpartition(".")[0]
    # With port 0 the kernel chooses one. Nobody but this host can reach it; `restrict` keeps the guest from the host.
    user: dict[str, Any] = {
        "type": "user", "id": _SSH_NET, "restrict": True, "ipv6": False, "net": net, "host": f"{prefix}.2",
        "dhcpstart": f"{prefix}.20", "hostfwd": [{"str": f"tcp:127.0.0.1:{forward}"}],
    }  # fmt: skip
    monitor(domain, "netdev_add", **user)
    monitor(domain, "netdev_add", type="hubport", id=_SSH_PORT, hubid=1, netdev=_SSH_NET)


def _forwarded(domain: Any) -> int | None:
    """Return the host's port that QEMU forwards to the second card of a domain."""
    for words in _of_ssh(domain):
        if words[0] == _LISTENS and words[2] == "127.0.0.1":
            return int(words[3])
    return None


def _of_ssh(domain: Any) -> list[list[str]]:
    """Return QEMU's table of connections of the second card's network, in words.

    Protocol[state], descriptor, address, port, guest's address, guest's port, …
    """
    network, found = "", []
    for line in monitor_text(domain, "info usernet").splitlines():
        words = line.split()
        if words[:1] == ["Hub"]:
            network = words[-1].strip("():")
        elif words and network == _SSH_NET:
            found.append(words)
    return found
