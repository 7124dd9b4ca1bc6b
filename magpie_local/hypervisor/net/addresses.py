"""This machine's own addresses and routes, as the kernel tells them (rtnetlink(7), proc(5)).

Only the standard library: a gate imports this.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW_ADDRESS, _GET_ADDRESS, _DONE, _ERROR = 20, 22, 3, 2
_REQUEST_DUMP = 0x301
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
#: struct nlmsghdr, ifaddrmsg, rtattr
_HEADER, _ADDRESS, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
_BUFFER = 1 << 17
_PROC = Path("/proc/net")
#: Flags of a route: it leads somewhere, through a gateway or not (linux/route.h); a rejecting one does not.
_UP, _REJECT = 0x1, 0x200


class Watch:
    """Tells when an address of this machine comes or goes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))

    def wait(self) -> None:
        """Return after the next change; some may be lost where many come at once, never the last of them."""
        # What does not fit into the kernel's queue is reported as an error: look again as well.
        try:
            self._socket.recv(_BUFFER)
        except OSError as error:
            if error.errno != 105:  # ENOBUFS
                raise


def own_addresses() -> list[tuple[bytes, bytes, int]]:
    """Return for each address: itself, what lies at the other end of its link, and the link's prefix length.

    The second is the same as the first except on point-to-point links.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        request = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(_HEADER.pack(_HEADER.size + len(request), _GET_ADDRESS, _REQUEST_DUMP, 1, 0) + request)
        found: list[tuple[bytes, bytes, int]] = []
        while True:
            for kind, body in _messages(kernel.recv(_BUFFER)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise OSError("the kernel does not tell this machine's addresses")
                if kind == _NEW_ADDRESS:
                    found.append(_address(body))


def families_with_a_way_out() -> str:
    """Return "4", "6", "46" or "": for which versions of IP there is a default route, other than one that rejects."""
    return ("4" if _has_default4() else "") + ("6" if _has_default6() else "")


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


def _address(body: bytes) -> tuple[bytes, bytes, int]:
    _, prefix, *_ = _ADDRESS.unpack_from(body)
    values, at = {}, _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        values[kind] = body[at + _ATTRIBUTE.size : at + size]
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    peer = values.get(_IFA_ADDRESS) or values[_IFA_LOCAL]
    return values.get(_IFA_LOCAL, peer), peer, prefix


def _has_default4() -> bool:
    rows = [line.split() for line in _table("route")[1:]]
    return any(row[1] == row[7] == "00000000" and int(row[3], 16) & (_UP | _REJECT) == _UP for row in rows)


def _has_default6() -> bool:
    rows = [line.split() for line in _table("ipv6_route")]
    return any(
        row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo" and int(row[8], 16) & (_UP | _REJECT) == _UP
        for row in rows
    )


def _table(name: str) -> list[str]:
    try:
        return (_PROC / name).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []  # a kernel without IPv6
