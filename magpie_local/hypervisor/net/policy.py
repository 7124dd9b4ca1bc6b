"""Where a frame of a guest's default network may go: out, and never to the machine that runs the VM.

passt turns what a guest sends into connections of this machine, to whatever address the packet names. A guest's root
user can name any: 127.0.0.1, ::1, 0.0.0.0, ::ffff:127.0.0.1 and this machine's own addresses all reached services of
the host through passt 2023-03-09 with --no-map-gw. So a gate looks at every frame before passt does.

Only fields at fixed places are looked at, those that passt itself goes by; whatever is not known to be harmless is
dropped: other protocols, tagged frames, short ones. Only the standard library: a gate imports this.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

#: The guest's network, as QEMU's own user network has it. Each gate has its own, so all may be the same.
ADDRESS4, PREFIX4, GATEWAY4, DNS4 = "10.0.2.15", 24, "10.0.2.2", "10.0.2.3"
ADDRESS6, PREFIX6, GATEWAY6 = "fd6d:6167:7069::15", 64, "fd6d:6167:7069::2"

_ARP, _IPV4, _IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
_TCP, _UDP, _ICMP6 = 6, 17, 58
_DNS_PORT = (53).to_bytes(2)
#: ICMPv6: neighbour solicitation and advertisement.
_NEIGHBOURS = (135, 136)
_DNS4_PACKED = socket.inet_aton(DNS4)
_GATEWAY6_PACKED = socket.inet_pton(socket.AF_INET6, GATEWAY6)
_CACHE_LIMIT = 10_000

#: Never: this host, loopback, link-local (cloud metadata), multicast, reserved and broadcast.
_NEVER4 = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
#: Not without leave: private and shared ranges.
_LAN4 = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15")
#: IPv6 is the other way round: only what is handed out at all, without tunnels that hold an IPv4 address.
_GLOBAL6, _TUNNELS6, _LAN6 = ("2000::/3",), ("2001::/32", "2002::/16"), ("fc00::/7",)
_NEVER6 = ("::/16", "64:ff9b::/32", "fe80::/9", "ff00::/8", *_TUNNELS6)


class Policy:
    """What may pass.

    Args:
        own: this machine's addresses (addresses.own_addresses).
        lan: whether private ranges and the networks that this machine is connected to may be reached.
        services: TCP services among those that may be reached without `lan`, by address and port; this machine's own
            addresses are none all the same.
    """

    def __init__(
        self, own: Sequence[tuple[bytes, bytes, int]], *, lan: bool, services: Collection[tuple[bytes, int]] = ()
    ) -> None:
        self._never = [*_ranges((*_NEVER4, *_NEVER6)), *(_host(one) for local, peer, _ in own for one in (local, peer))]
        inside = () if lan else (*_ranges(_LAN4), *(_range(peer, prefix) for _, peer, prefix in own))
        self._denied = [*self._never, *inside]
        self._services = frozenset((address, port.to_bytes(2)) for address, port in services)
        self._allowed6 = [*_ranges(_GLOBAL6), *(_ranges(_LAN6) if lan else ())]
        self._verdicts: dict[bytes, bool] = {}

    def allows(self, frame: memoryview | bytes) -> bool:
        """Say whether an Ethernet frame may go on to passt."""
        kind = frame[12:14]
        if kind == _IPV4:
            return len(frame) >= 34 and self._allows4(frame)
        if kind == _IPV6:
            return len(frame) >= 54 and self._allows6(frame)
        return kind == _ARP

    def _allows4(self, frame: memoryview | bytes) -> bool:
        target = bytes(frame[30:34])
        if target == _DNS4_PACKED:
            # passt asks this machine's resolver; any other port would be a host of somebody's private network.
            return _is_plain(frame) and frame[23] == _UDP and frame[36:38] == _DNS_PORT
        if self._reachable(target):
            return True
        return _is_plain(frame) and frame[23] == _TCP and self._serves(target, frame[36:38])

    def _allows6(self, frame: memoryview | bytes) -> bool:
        target = bytes(frame[38:54])
        # passt answers for its gateway, and for nothing else of these.
        if target[0] == 0xFF or target == _GATEWAY6_PACKED:
            return len(frame) > 54 and frame[20] == _ICMP6 and frame[54] in _NEIGHBOURS
        return self._reachable(target) or (frame[20] == _TCP and self._serves(target, frame[56:58]))

    def _serves(self, target: bytes, port: memoryview | bytes) -> bool:
        return (target, bytes(port)) in self._services and not _in(target, self._never)

    def _reachable(self, target: bytes) -> bool:
        verdict = self._verdicts.get(target)
        if verdict is None:
            if len(self._verdicts) >= _CACHE_LIMIT:
                self._verdicts.clear()
            verdict = self._verdicts[target] = self._judge(target)
        return verdict

    def _judge(self, target: bytes) -> bool:
        return (len(target) == 4 or _in(target, self._allowed6)) and not _in(target, self._denied)


def _is_plain(frame: memoryview | bytes) -> bool:
    """Return whether an IPv4 packet has its ports where they usually are: no options, and no fragment."""
    return frame[14] == 0x45 and frame[20] & 0x3F == 0 and frame[21] == 0


def packed(address: str) -> bytes:
    """Return an address as it is on the wire."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


#: A range: the length of its addresses in bytes, its first address, and how many low bits are free.
_Range = tuple[int, int, int]


def _ranges(texts: Sequence[str]) -> list[_Range]:
    return [_parsed(text) for text in texts]


def _parsed(text: str) -> _Range:
    address, _, prefix = text.partition("/")
    return _range(packed(address), int(prefix))


def _host(address: bytes) -> _Range:
    return _range(address, len(address) * 8)


def _range(address: bytes, prefix: int) -> _Range:
    free = len(address) * 8 - prefix
    return len(address), int.from_bytes(address) >> free, free


def _in(target: bytes, ranges: Sequence[_Range]) -> bool:
    number = int.from_bytes(target)
    return any(size == len(target) and number >> free == first for size, first, free in ranges)
