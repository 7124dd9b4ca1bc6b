"""The store's side of networks. Every write is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from magpie_local.domain.network import Member, NetworkRecord, NetworkSpec


class NetworkStore(Protocol):
    """What any process may do with named networks."""

    async def all(self) -> list[NetworkRecord]:
        """Return all networks, by name."""
        ...

    async def get(self, name: str) -> NetworkRecord | None:
        """Return one network."""
        ...

    async def create(self, spec: NetworkSpec) -> NetworkRecord:
        """Add a network.

        Raises:
            NetworkTaken: one has its name, or overlaps with its range.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove a network.

        Raises:
            NetworkNotFound: there is none.
            NetworkInUse: jobs are on it, or wait for it.
        """
        ...

    async def members(self, name: str) -> list[Member]:
        """Return the jobs that are on a network, or wait for it, in the order of their creation."""
        ...
