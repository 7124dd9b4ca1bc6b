"""The management card: the second network card, by which ssh comes in."""

from __future__ import annotations

import fcntl
import os
import struct

from magpie_local.guest.agent.background import Trouble

#: Where the hypervisor puts it (domain_xml). Its name depends on the order in which the kernel finds the cards.
_PLACE = "/sys/bus/pci/devices/0000:00:1e.1"
#: netdevice(7)
_SET_ADDRESS, _SET_MASK, _GET_FLAGS, _SET_FLAGS, _UP = 0x8916, 0x891C, 0x8913, 0x8914, 1
_IFREQ = struct.Struct("=16s24s")
_SOCKADDR = struct.Struct("=HH4s16x")
_INET = 2


def bring_up(address: str) -> None:
    """Give the card `address` (`169.254.77.15/24`) and bring it up: with a route to its own network only.

    Raises:
        Trouble: there is no such card, or the kernel refuses.
    """
    import _socket  # the core of `socket`, without its enums

    host, _, bits = address.partition("/")
    mask = (0xFFFFFFFF << (32 - int(bits))) & 0xFFFFFFFF
    name = _name()
    endpoint = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        _no_ipv6(name)
        _ask(endpoint.fileno(), _SET_ADDRESS, name, _SOCKADDR.pack(_INET, 0, _socket.inet_aton(host)))
        _ask(endpoint.fileno(), _SET_MASK, name, _SOCKADDR.pack(_INET, 0, mask.to_bytes(4, "big")))
        flags = _ask(endpoint.fileno(), _GET_FLAGS, name, b"")
        now = int.from_bytes(flags[:2], "little") | _UP
        _ask(endpoint.fileno(), _SET_FLAGS, name, now.to_bytes(2, "little"))
    except OSError as error:
        raise Trouble(f"the card {name} can't be brought up as {address}: {error}") from None
    finally:
        endpoint.close()


def _name() -> str:
    try:
        device = next(name for name in os.listdir(_PLACE) if name.startswith("virtio"))
        return os.listdir(f"{_PLACE}/{device}/net")[0]
    except (OSError, StopIteration, IndexError):
        raise Trouble(f"this VM has no second network card at {_PLACE}") from None


def _no_ipv6(name: str) -> None:
    """Keep the card from giving itself an address; a kernel without IPv6 has nothing to switch off."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "wb", buffering=0) as file:
            file.write(b"1")
    except OSError:
        return


def _ask(endpoint: int, request: int, name: str, value: bytes) -> bytes:
    answer = fcntl.ioctl(endpoint, request, _IFREQ.pack(name.encode(), value))
    return bytes(_IFREQ.unpack(answer)[1])
