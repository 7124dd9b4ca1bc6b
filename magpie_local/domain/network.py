"""Private networks between VMs, and what a guest is told of its network: names, ranges and addresses, all pure.

IPv4: the network's owner chooses a private range (RFC 1918); its first address, the gateway's by custom, belongs to
nobody, since nothing leads out of a private network. IPv6: each network has a /64 of its own (RFC 4193) that follows
from the state directory and the network's name, so an address made from a name is the same one on every day.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from magpie_local.errors import InvalidInput, NetworkFull, NetworkTaken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_NAME = re.compile(r"[a-z0-9-]{1,40}")
_LEASE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_SHORTEST, _LONGEST = 16, 29
#: Words that `network=` has of its own, and no network may be called: the internet, and nothing.
DEFAULT, NONE = RESERVED = ("default", "none")
#: Jumbo frames: fewer and larger ones make a private network fast. At 65520 connections between guests of 192 MiB
#: stalled for minutes: one such packet takes more memory than a new connection may have.
PRIVATE_MTU = 9000
#: Longest label of a host name (RFC 1035).
_LABEL = 63


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A named private network; made by `network_spec`, which checks it."""

    name: str
    cidr: IPv4Network


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """A named network as stored."""

    name: str
    cidr: IPv4Network
    #: Wall clock, seconds since the epoch.
    created_at: float
    #: How many jobs are on it, or wait for it.
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A job on a named network."""

    job_id: str
    name: str
    address: str | None
    address6: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """How a guest has to set up its card, eth0: there is nobody whom it could ask (no DHCP, no advertisements)."""

    #: Each with its prefix's length: `10.0.2.15/24`. IPv6 ones need no duplicate address detection.
    addresses: tuple[str, ...] = ()
    #: Default routes: one for each family that has a way out.
    gateways: tuple[str, ...] = ()
    #: For /etc/resolv.conf.
    dns: tuple[str, ...] = ()
    mtu: int = 1500
    #: Further lines for /etc/hosts.
    hosts: tuple[str, ...] = ()
    #: Certificates (PEM) of authorities to be trusted, by the file of the guest that each goes to.
    authorities: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: What scripts need in their environment to get out (proxies), and the passwords in it.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    passwords: tuple[str, ...] = field(default=(), repr=False)


def network_spec(name: object, cidr: object) -> NetworkSpec:
    """Return a network that may be created, as far as that can be told without knowing the others.

    Raises:
        InvalidInput: `name` is no name or reserved, or `cidr` no private IPv4 range of /16 to /29.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
        words = " and ".join(RESERVED)
        raise InvalidInput("network name", name, f"1 to 40 of a-z, 0-9 and '-'; {words} mean something else")
    return NetworkSpec(name, _private_range(cidr))


def check_network_name(field: str, name: object) -> None:
    """Raise InvalidInput unless `name` is a network's, or one of the words that mean something else."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise InvalidInput(field, name, "default, none, or a network's name: 1 to 40 of a-z, 0-9 and '-'")


def check_lease(lease: object) -> None:
    """Raise InvalidInput unless `lease` can be the name of an address."""
    if not isinstance(lease, str) or not _LEASE.fullmatch(lease):
        raise InvalidInput("ipv6_lease", lease, "1 to 64 of letters, digits, '.', '_' and '-'")


def check_new(new: NetworkSpec, others: Iterable[NetworkSpec]) -> None:
    """Check a network against those that are there.

    Raises:
        NetworkTaken: one has its name, or overlaps with its range; names it.
    """
    for other in others:
        if other.name == new.name:
            raise NetworkTaken("network name", new.name, f"there is one already, {other.cidr}")
        if other.cidr.overlaps(new.cidr):
            raise NetworkTaken("network cidr", str(new.cidr), f"it overlaps with {other.cidr} of {other.name!r}")


def allocate(network: NetworkSpec, key: str, taken: Collection[str]) -> str:
    """Return the IPv4 address of `key` (a job's id) that is not `taken`.

    It depends on the key, not on the order of requests, as long as no two keys want the same one.

    Raises:
        NetworkFull: all are taken.
    """
    # Without the network's own address, .1, and the broadcast address.
    first, count = int(network.cidr.network_address) + 2, network.cidr.num_addresses - 3
    start = int.from_bytes(_digest("address", network.name, key)[:8])
    for step in range(count):
        address = str(IPv4Address(first + (start + step) % count))
        if address not in taken:
            return address
    raise NetworkFull(f"All {count} addresses of the network {network.name!r} ({network.cidr}) are taken.")


def ula_prefix(state_id: str, name: str) -> IPv6Network:
    """Return the /64 of the network `name` in this state directory: fd and 56 bits of a digest (RFC 4193, 3.2)."""
    return IPv6Network((b"\xfd" + _digest("prefix", state_id, name)[:7] + bytes(8), 64))


def member_address6(prefix: IPv6Network, key: str) -> str:
    """Return the IPv6 address of `key` (a job's id) on the network of `prefix`."""
    return _within(prefix, "job", key)


def lease_address(prefix: IPv6Network, lease: object) -> str:
    """Return the IPv6 address of a lease: always the same for the same name.

    Raises:
        InvalidInput: `lease` is no name.
    """
    check_lease(lease)
    return _within(prefix, "lease", str(lease))


def private_config(network: NetworkSpec, prefix: IPv6Network, address: str, *addresses6: str) -> GuestConfig:
    """Return what a member of a private network is told: its addresses, and no way out."""
    own = (f"{address}/{network.cidr.prefixlen}", *(f"{each}/{prefix.prefixlen}" for each in addresses6))
    return GuestConfig(addresses=own, mtu=PRIVATE_MTU)


def host_names(jobs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return a host name for each job, given as (id, name) pairs in the order of their creation.

    A name is its job's in lower case with `-` for what no host name may hold; the second of the same name gets `-2`.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for job_id, name in jobs:
        label = _label(name) or "job"
        names[job_id] = _first_free(label, taken)
        taken.add(names[job_id])
    return names


def hosts_lines(names: Mapping[str, str], addresses: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the lines of /etc/hosts that lead to the members of a network; both mappings are by job id."""
    return tuple(f"{address} {names[job_id]}" for job_id in names for address in addresses.get(job_id, ()))


def _private_range(cidr: object) -> IPv4Network:
    allowed = "a private IPv4 range of /16 to /29 such as 10.20.0.0/24, without host bits"
    try:
        found = IPv4Network(cidr) if isinstance(cidr, str) and "/" in cidr else None
    except ValueError:
        found = None
    if found is None or not _SHORTEST <= found.prefixlen <= _LONGEST:
        raise InvalidInput("network cidr", cidr, allowed)
    if not any(found.subnet_of(private) for private in _PRIVATE):
        raise InvalidInput("network cidr", cidr, f"{allowed}, within {', '.join(map(str, _PRIVATE))}")
    return found


def _within(prefix: IPv6Network, *words: str) -> str:
    # 0 is the routers' anycast address.
    interface = int.from_bytes(_digest("interface", *words)[:8]) or 1
    return str(IPv6Address(int(prefix.network_address) + interface))


def _digest(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).digest()


def _label(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LABEL].rstrip("-")


def _first_free(label: str, taken: Collection[str]) -> str:
    if label not in taken:
        return label
    number = 2
    while (candidate := f"{label[: _LABEL - len(str(number)) - 1].rstrip('-')}-{number}") in taken:
        number += 1
    return candidate
