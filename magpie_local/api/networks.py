"""What one can do with named networks, as coroutines on the engine's loop, and the two faces of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from magpie_local.api.farewell import members_left
from magpie_local.api.models import Confirmation
from magpie_local.domain.network import network_spec
from magpie_local.domain.sizes import format_count
from magpie_local.errors import NetworkNotFound

if TYPE_CHECKING:
    import builtins

    from magpie_local.api.runtime import Runtime
    from magpie_local.domain.network import NetworkRecord
    from magpie_local.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NetworkInfo:
    """A private network between VMs, as it was when it was read."""

    name: str
    #: Its range of IPv4 addresses.
    cidr: str
    created_at: datetime
    #: How many jobs are on it, or wait for it.
    jobs: int

    def __repr__(self) -> str:
        return f"<Network {self.name} {self.cidr} {format_count(self.jobs, 'job')}>"

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        created = self.created_at.isoformat()
        return {"name": self.name, "cidr": self.cidr, "created_at": created, "jobs": self.jobs}


class NetworkService:
    """The verbs.

    Args:
        engine: the engine of this process.
    """

    def __init__(self, engine: Engine) -> None:
        self._ports = engine.ports
        self._store = engine.ports.network_store

    async def list(self) -> list[NetworkInfo]:
        """Return all networks, by name."""
        return [_info(record) for record in await self._store.all()]

    async def get(self, name: str) -> NetworkInfo:
        """Return one network."""
        found = await self._store.get(name) if isinstance(name, str) else None
        if found is None:
            raise NetworkNotFound(f"There is no network {name!r}.")
        return _info(found)

    async def create(self, name: str, cidr: str) -> NetworkInfo:
        """Add a network."""
        return _info(await self._store.create(network_spec(name, cidr)))

    async def remove(self, name: str) -> Confirmation:
        """Remove a network that no job is on."""
        found = await self.get(name)
        await members_left(self._ports, found.name)
        await self._store.remove(found.name)
        return Confirmation(id=found.name, status="deleted", kind="network")


class Networks:
    """What one can do with named networks: VMs on one reach each other by address and by their jobs' names."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.networks

    def list(self) -> builtins.list[NetworkInfo]:
        """Return all networks, by name."""
        return self._runtime.call(self._verbs.list())

    def get(self, name: str) -> NetworkInfo:
        """Return one network.

        Raises:
            NetworkNotFound: there is none of that name.
        """
        return self._runtime.call(self._verbs.get(name))

    def create(self, name: str, cidr: str) -> NetworkInfo:
        """Add a network; jobs join it with `network=name`.

        Args:
            name: 1 to 40 of a-z, 0-9 and '-'; not `default` or `none`.
            cidr: a private IPv4 range of /16 to /29, such as 10.20.0.0/24.

        Raises:
            InvalidInput: a value is not allowed.
            NetworkTaken: a network has that name, or overlaps with that range.
        """
        return self._runtime.call(self._verbs.create(name, cidr))

    def remove(self, name: str) -> Confirmation:
        """Remove a network.

        Raises:
            NetworkNotFound: there is none of that name.
            NetworkInUse: jobs are on it, or wait for it.
        """
        return self._runtime.call(self._verbs.remove(name))


class AsyncNetworks:
    """The same as `Networks`, awaited."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.networks

    async def list(self) -> builtins.list[NetworkInfo]:
        """Return all networks, by name."""
        return await self._runtime.await_call(self._verbs.list())

    async def get(self, name: str) -> NetworkInfo:
        """Return one network."""
        return await self._runtime.await_call(self._verbs.get(name))

    async def create(self, name: str, cidr: str) -> NetworkInfo:
        """Add a network; parameters and errors as in `Networks.create`."""
        return await self._runtime.await_call(self._verbs.create(name, cidr))

    async def remove(self, name: str) -> Confirmation:
        """Remove a network that no job is on."""
        return await self._runtime.await_call(self._verbs.remove(name))


def _info(record: NetworkRecord) -> NetworkInfo:
    created = datetime.fromtimestamp(record.created_at, UTC)
    return NetworkInfo(name=record.name, cidr=str(record.cidr), created_at=created, jobs=record.jobs)
