"""The store of one state directory, opened as a whole."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from magpie_local.store.database import BUSY_TIMEOUT, Database
from magpie_local.store.identity import read_id
from magpie_local.store.jobs import SqliteJobs
from magpie_local.store.leader import SqliteLeader
from magpie_local.store.networks import SqliteNetworks
from magpie_local.store.workspaces import SqliteWorkspaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.domain.layout import Layout
    from magpie_local.ports.clock import Clock


class Store:
    """All ports on one database."""

    def __init__(self, database: Database, clock: Clock, state_id: str) -> None:
        self._database = database
        self.jobs = SqliteJobs(database, clock)
        self.leader = SqliteLeader(database, clock)
        self.workspaces = SqliteWorkspaces(database, clock)
        self.networks = SqliteNetworks(database, clock)
        #: Random, and another one in a copy of the state directory (F22).
        self.state_id = state_id

    async def version(self) -> int:
        """Return a number that differs from the last one where any process has changed something; for pollers."""
        return await self._database.version()


@asynccontextmanager
async def open_store(layout: Layout, clock: Clock, *, busy_timeout: float = BUSY_TIMEOUT) -> AsyncIterator[Store]:
    """Open the store of a state directory, making both where they are missing.

    Several may be open at once, in one process and in many. Where the folder can't be written, reads work and writes
    raise StateUnavailable. After a fork the child's calls raise ClientClosed.

    Args:
        layout: where things lie.
        clock: where times come from.
        busy_timeout: seconds to wait for another process's lock (F32).

    Raises:
        StateUnavailable: not ours, open to others, on a network file system, locked, unreadable.
        StateCorrupt, StateTooNew: the file was left untouched.
        HostDiskFull: there is no room for a new one.
    """
    database = Database(layout, busy_timeout=busy_timeout)
    await database.open()
    try:
        yield Store(database, clock, await database.read(read_id))
    finally:
        await database.close()
