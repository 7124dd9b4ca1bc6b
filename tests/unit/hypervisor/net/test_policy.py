"""What a gate lets through. The frames are what a guest's root user could send, not what a well-behaved one would."""

from __future__ import annotations

import socket

import pytest

from magpie_local.hypervisor.net import policy
from magpie_local.hypervisor.net.policy import Policy

OWN = [("127.0.0.1", "127.0.0.1", 8), ("::1", "::1", 128), ("198.51.100.10", "198.51.100.10", 24),
       ("2001:db8:1::10", "2001:db8:1::10", 64), ("203.0.113.200", "203.0.113.201", 32), ("10.8.0.1", "10.8.0.1", 24),
       ("fd12::1", "fd12::1", 64)]  # fmt: skip
TCP, UDP, ICMP6 = 6, 17, 58


def pack(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def make_own() -> list[tuple[bytes, bytes, int]]:
    return [(pack(local), pack(peer), prefix) for local, peer, prefix in OWN]


def make(*, lan: bool = False) -> Policy:
    return Policy(make_own(), lan=lan)


def to(
    address: str, protocol: int = TCP, port: int = 80, first: int = 0, fragment: int = 0, version: int = 0x45
) -> bytes:
    """Return a frame to an address; `first` is the first byte behind an IPv6 header."""
    target = pack(address)
    body = (0x9C40).to_bytes(2) + port.to_bytes(2) + bytes(16)
    if len(target) == 4:
        header = bytes([version, 0]) + bytes(4) + fragment.to_bytes(2) + bytes([64, protocol]) + bytes(6) + target
        return bytes(12) + b"\x08\x00" + header + body
    body = bytes([first]) + body if first else body
    return bytes(12) + b"\x86\xdd" + b"\x60" + bytes(5) + bytes([protocol, 64]) + bytes(16) + target + body


@pytest.mark.parametrize("protocol", [TCP, UDP, 1, ICMP6])
@pytest.mark.parametrize("lan", [False, True])
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "198.51.100.10", "203.0.113.200", "203.0.113.201", "10.8.0.1",
     "169.254.169.254", "224.0.0.251", "255.255.255.255", "240.0.0.1",
     "::1", "::", "::ffff:127.0.0.1", "::ffff:203.0.113.7", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1",
     "2001:0:1::1", "fe80::1", "fec0::1", "ff02::1", "ff05::2", "2001:db8:1::10", "fd12::1"],
)  # fmt: skip
def test_nothing_goes_to_this_machine_or_its_link_whatever_is_allowed(address, lan, protocol):
    assert not make(lan=lan).allows(to(address, protocol))


@pytest.mark.parametrize("address", ["203.0.113.7", "8.8.8.8", "192.0.2.1", "2001:db8:2::7", "2a00::1"])
@pytest.mark.parametrize("lan", [False, True])
def test_everything_else_that_is_public_is_reachable(address, lan):
    assert make(lan=lan).allows(to(address))


@pytest.mark.parametrize(
    "address",
    ["10.9.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.51.100.11", "10.8.0.2"],
)
def test_neighbours_and_private_ranges_take_leave(address):
    assert not make().allows(to(address))
    assert make(lan=True).allows(to(address))


@pytest.mark.parametrize("address", ["2001:db8:1::11", "fd12::2", "fd99::1"])
def test_neighbours_and_private_ranges_take_leave_by_ipv6_too(address):
    assert not make().allows(to(address))
    assert make(lan=True).allows(to(address))


@pytest.mark.parametrize("address", ["10.9.0.1", "198.51.100.11", "fd99::1", "2001:db8:1::11"])
def test_of_a_named_service_only_its_port_can_be_reached(address):
    allows = Policy(make_own(), lan=False, services=[(pack(address), 3128)]).allows
    assert allows(to(address, TCP, 3128))
    assert not allows(to(address, TCP, 3129))
    assert not allows(to(address, UDP, 3128))
    if ":" not in address:
        assert not allows(to(address, TCP, 3128, fragment=0x0001))
        assert not allows(to(address, TCP, 3128, version=0x46))


@pytest.mark.parametrize("address", ["127.0.0.1", "198.51.100.10", "10.8.0.1", "169.254.169.254", "0.0.0.0", "::1",
                                     "::ffff:127.0.0.1", "fd12::1", "fe80::1", "2002:7f00:1::1"])  # fmt: skip
def test_no_named_service_is_this_machines(address):
    assert not Policy(make_own(), lan=True, services=[(pack(address), 3128)]).allows(to(address, TCP, 3128))


def test_of_the_resolver_only_its_port_can_be_reached():
    allows = make(lan=True).allows
    assert allows(to(policy.DNS4, UDP, 53))
    assert not allows(to(policy.DNS4, UDP, 54))
    assert not allows(to(policy.DNS4, TCP, 53))
    # Behind a fragment or header options the port would be elsewhere.
    assert not allows(to(policy.DNS4, UDP, 53, fragment=0x2000))
    assert not allows(to(policy.DNS4, UDP, 53, fragment=0x0001))
    assert not allows(to(policy.DNS4, UDP, 53, version=0x46))
    assert allows(to(policy.DNS4, UDP, 53, fragment=0x4000))


def test_neighbour_discovery_works_and_nothing_else_by_multicast():
    allows = make().allows
    assert allows(to("ff02::1:ff00:2", ICMP6, first=135))
    assert allows(to(policy.GATEWAY6, ICMP6, first=136))
    assert not allows(to("ff02::fb", UDP, 5353))
    assert not allows(to("ff02::2", ICMP6, first=133))
    assert not allows(to(policy.GATEWAY6, TCP))
    assert not allows(to(policy.GATEWAY6, ICMP6, first=128))


@pytest.mark.parametrize(
    "frame",
    [b"", bytes(12), bytes(12) + b"\x08\x00", bytes(12) + b"\x86\xdd" + bytes(39), bytes(12) + b"\x81\x00" + bytes(60),
     bytes(12) + b"\x88\x47" + bytes(60), bytes(60), to("203.0.113.7")[:33]],
)  # fmt: skip
def test_what_is_short_tagged_or_of_another_protocol_is_dropped(frame):
    assert not make(lan=True).allows(frame)


def test_address_resolution_passes():
    assert make().allows(bytes(12) + b"\x08\x06" + bytes(28))


def test_verdicts_do_not_pile_up():
    rules = make()
    for number in range(25_000):
        rules.allows(to(f"8.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(rules._verdicts) <= 10_000
    assert not rules.allows(to("127.0.0.1"))
