"""The job's own network card, names and authorities, as the host says: there is nobody else whom the guest could ask.

All of this blocks. Said again, only what has changed is done again: connections live on when a peer comes.
"""

from __future__ import annotations

import os

from magpie_local.guest.agent.background import Trouble, run_program
from magpie_local.guest.agent.identity import put
from magpie_local.guest.agent.runorder import texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

CARD = "eth0"
_NOTHING: dict[str, Any] = {"addresses": [], "gateways": [], "dns": [], "mtu": 1500, "hosts": [], "authorities": {}}
_IP = "/usr/sbin/ip"
_RESOLV, _HOSTS, _BUNDLE = "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"
_SETTINGS = f"/proc/sys/net/ipv6/conf/{CARD}"
#: What an address, with or without the length of a prefix, is made of.
_ADDRESS = frozenset("0123456789abcdefABCDEF.:/")
#: Around our part of a file that others write to as well.
_BEGIN, _END = "# begin: written by magpie\n", "# end: written by magpie\n"


class Config:
    """What the host says.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the message is no such thing.
    """

    def __init__(self, message: dict[str, Any]) -> None:
        self.addresses = [_address(one) for one in texts(message["addresses"])]
        #: Default routes.
        self.gateways = [_address(one) for one in texts(message["gateways"])]
        self.dns = [_address(one) for one in texts(message["dns"])]
        self.mtu = int(message["mtu"])
        #: Lines of /etc/hosts.
        self.hosts = [_line(one) for one in texts(message["hosts"])]
        #: Certificates (PEM) of authorities that are to be trusted, by the file that each goes to.
        self.authorities = {str(path): str(text) for path, text in message["authorities"].items()}

    def card(self) -> tuple[object, ...]:
        """Return what the card depends on."""
        return (self.addresses, self.gateways, self.mtu)


class Network:
    """The guest's network, as far as it is the job's."""

    def __init__(self) -> None:
        #: What was said last; None where that may not have been done to its end.
        self._now: Config | None = Config(_NOTHING)

    def apply(self, config: Config) -> None:
        """Have the guest be on the network as `config` says.

        Raises:
            Trouble: the card or a file can't be set up; what was done so far stays.
        """
        before, self._now = self._now, None
        try:
            if before is None or before.card() != config.card():
                _set_up(config)
            if before is None or before.dns != config.dns:
                put(_RESOLV, "".join(f"nameserver {one}\n" for one in config.dns), 0o644)
            if config.hosts or before is None or before.hosts:
                _replace_part(_HOSTS, config.hosts)
            if before is None or before.authorities != config.authorities:
                _trust(config.authorities)
        except OSError as error:
            raise Trouble(f"the network can't be set up: {error}") from None
        self._now = config


def rehearse() -> None:
    """Run the program that sets up the card, on nothing."""
    run_program([_IP, "-batch", os.devnull])


def batch(config: Config) -> str:
    """Return the commands for `ip -batch`: from whatever the card is to what it is to be.

    A card that was down has forgotten its routes.
    """
    lines = [f"link set dev {CARD} down", f"addr flush dev {CARD}"]
    if config.addresses:
        lines.append(f"link set dev {CARD} mtu {config.mtu} up")
    lines += [f"addr add {address} dev {CARD}" + " nodad" * (":" in address) for address in config.addresses]
    lines += [f"route add default via {gateway} dev {CARD}" for gateway in config.gateways]
    return "".join(f"{line}\n" for line in lines)


def with_part(text: str, lines: Iterable[str]) -> str:
    """Return the text of a file with our part of it, at its end, replaced by `lines`; nothing else changes."""
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    part = "".join(f"{line}\n" for line in lines)
    joined = before + after
    if not part:
        return joined
    if joined and not joined.endswith("\n"):
        joined += "\n"
    return f"{joined}{_BEGIN}{part}{_END}"


def _set_up(config: Config) -> None:
    if not os.path.isdir(f"/sys/class/net/{CARD}"):
        raise Trouble(f"this VM has no network card {CARD}")
    # The host gives out each address once, and sends no advertisements.
    for name in ("accept_dad", "accept_ra"):
        _switch_off(name)
    commands = os.memfd_create("commands")
    try:
        os.write(commands, batch(config).encode())
        code, words = run_program([_IP, "-batch", f"/proc/{os.getpid()}/fd/{commands}"])
    finally:
        os.close(commands)
    if code != 0:
        raise Trouble(f"the card {CARD} can't be set up: {words}")


def _switch_off(name: str) -> None:
    try:
        with open(f"{_SETTINGS}/{name}", "wb", buffering=0) as file:
            file.write(b"0")
    except FileNotFoundError:
        return  # a kernel without IPv6


def _trust(authorities: dict[str, str]) -> None:
    for path, text in authorities.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        put(path, text, 0o644)
    _replace_part(_BUNDLE, (text.rstrip("\n") for text in authorities.values()))


def _replace_part(path: str, lines: Iterable[str]) -> None:
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read().decode(errors="surrogateescape")
    except FileNotFoundError:
        text = ""
    new = with_part(text, lines)
    if new != text:
        put(path, new, 0o644)


def _address(text: str) -> str:
    if not text or not _ADDRESS.issuperset(text):
        raise ValueError(f"no address: {text!r}")
    return text


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"no line of a file: {text!r}")
    return text
