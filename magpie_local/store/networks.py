"""The network port on SQLite, and what an accepted job is given on its network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from magpie_local.domain.network import (
    RESERVED,
    NetworkSpec,
    allocate,
    check_new,
    lease_address,
    member_address6,
    ula_prefix,
)
from magpie_local.domain.sizes import format_count
from magpie_local.errors import LeaseTaken, NetworkInUse, NetworkNotFound
from magpie_local.store.identity import read_id
from magpie_local.store.rows import member_record, network_record

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId
    from magpie_local.domain.network import Member, NetworkRecord
    from magpie_local.domain.spec import JobSpec
    from magpie_local.ports.clock import Clock
    from magpie_local.store.database import Database
    from magpie_local.store.session import Session


class SqliteNetworks:
    """The port NetworkStore. Use it through `open_store`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def all(self) -> list[NetworkRecord]:
        """Return all networks, by name."""
        return await self._database.read(_all)

    async def get(self, name: str) -> NetworkRecord | None:
        """Return one network."""
        return await self._database.read(partial(_get, name=name))

    async def create(self, spec: NetworkSpec) -> NetworkRecord:
        """Add a network.

        Raises:
            NetworkTaken: one has its name, or overlaps with its range.
        """
        return await self._database.write(partial(_create, spec=spec, now=self._clock.now()))

    async def remove(self, name: str) -> None:
        """Remove a network.

        Raises:
            NetworkNotFound, NetworkInUse.
        """
        await self._database.write(partial(_remove, name=name))

    async def members(self, name: str) -> list[Member]:
        """Return the jobs that are on a network, or wait for it, in the order of their creation."""
        return await self._database.read(partial(_members, name=name))


class Place(NamedTuple):
    """What a job has on its network."""

    #: IPv4, on a named network.
    address: str | None
    #: IPv6: of its lease, or on a named network its own.
    address6: str | None


def place(session: Session, job_id: JobId, spec: JobSpec, now: float) -> Place:
    """Return what an accepted job has on its network.

    Raises:
        NetworkNotFound, NetworkFull, LeaseTaken.
    """
    address = address6 = None
    if spec.network not in RESERVED:
        network = _present(session, spec.network)
        taken = {member.address for member in _members(session, name=spec.network) if member.address}
        address = allocate(NetworkSpec(network.name, network.cidr), str(job_id), taken)
        address6 = member_address6(ula_prefix(read_id(session), spec.network), str(job_id))
    if spec.ipv6_lease is not None:
        address6 = _leased(session, spec.ipv6_lease, spec.network, now)
    return Place(address, address6)


def _leased(session: Session, lease: str, network: str, now: float) -> str:
    """Return the address of a lease, which is the same one for ever."""
    holder = session.value("lease_holder", lease=lease)
    if holder is not None:
        raise LeaseTaken("ipv6_lease", lease, f"job {holder} has it; stop that, or choose another name")
    known = session.row("get_lease", name=lease)
    if known is not None and known["network"] != network:
        raise LeaseTaken("ipv6_lease", lease, f"it is an address of the network {known['network']}")
    if known is not None:
        return str(known["address"])
    address = lease_address(ula_prefix(read_id(session), network), lease)
    session.run("add_lease", name=lease, network=network, address=address, created_at=now)
    return address


def _all(session: Session) -> list[NetworkRecord]:
    return [network_record(row) for row in session.rows("all_networks")]


def _get(session: Session, *, name: str) -> NetworkRecord | None:
    row = session.row("get_network", name=name)
    return None if row is None else network_record(row)


def _present(session: Session, name: str) -> NetworkRecord:
    found = _get(session, name=name)
    if found is None:
        raise NetworkNotFound(f"There is no network {name!r}.")
    return found


def _create(session: Session, *, spec: NetworkSpec, now: float) -> NetworkRecord:
    check_new(spec, [NetworkSpec(other.name, other.cidr) for other in _all(session)])
    session.run("add_network", name=spec.name, cidr=str(spec.cidr), created_at=now)
    return _present(session, spec.name)


def _remove(session: Session, *, name: str) -> None:
    found = _present(session, name)
    if found.jobs:
        raise NetworkInUse(f"The network {name} is in use by {format_count(found.jobs, 'job')}.")
    session.run("delete_network", name=name)


def _members(session: Session, *, name: str) -> list[Member]:
    return [member_record(row) for row in session.rows("network_members", network=name)]
