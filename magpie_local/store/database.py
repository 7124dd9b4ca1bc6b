"""The open database of one state directory: a connection that writes and one that reads, each on its own thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from magpie_local.errors import ClientClosed, StateUnavailable
from magpie_local.store import folder, identity
from magpie_local.store.ballast import Ballast
from magpie_local.store.connection import Connection
from magpie_local.store.failures import typed
from magpie_local.store.journal import journal_query
from magpie_local.store.migrate import can_write, connect, open_database
from magpie_local.store.patience import patiently
from magpie_local.store.session import Session
from magpie_local.store.writer import Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from magpie_local.domain.layout import Layout

T = TypeVar("T")

#: Seconds to wait for another process's lock (F32).
BUSY_TIMEOUT = 30.0


class Database:
    """Runs functions on the connections. Open it once, on the event loop that uses it."""

    def __init__(self, layout: Layout, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._layout = layout
        self._busy_timeout = busy_timeout
        self._ballast = Ballast(layout.ballast)
        self._pid = os.getpid()
        self._reader: Connection | None = None
        self._writer: Writer | None = None

    async def open(self) -> None:
        """Open the file; it is made or migrated where needed.

        Raises:
            StateError: any of its kinds.
        """
        first = await Connection.opened(self._prepare)
        if not can_write(self._layout.database):
            self._reader = first
            return
        self._writer = Writer(first, self._layout.database, self._ballast, self._busy_timeout)
        try:
            self._reader = await Connection.opened(self._connect)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the writes under way, and close. Closing a closed one is nothing."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if self._pid != os.getpid():
            return  # the threads stayed in the parent process
        if reader is not None:
            await reader.close()
        if writer is not None:
            await writer.close()

    async def read(self, work: Callable[[Session], T]) -> T:
        """Return what `work` finds; it sees one moment of the database."""
        return await self._open_reader().run(lambda session: self._snapshot(session, work))

    async def write(self, work: Callable[[Session], T], *, vital: bool = False) -> T:
        """Return what `work` returns, after its changes are on the disk.

        `work` may run twice: among other writes, and alone where those failed. A caller that is cancelled does not know
        whether it happened, and has to read (F11). On a full disk the ballast is given up for a `vital` one.

        Raises:
            StateError: nothing was changed.
        """
        self._open_reader()
        if self._writer is None:
            raise StateUnavailable(f"{self._layout.root} can only be read: nothing can be changed there.")
        return await self._writer.write(work, vital=vital)

    async def version(self) -> int:
        """Return a number that differs from the last one where anybody has committed since. Costs 0.1 ms."""
        return await self._open_reader().run(self._data_version)

    def _open_reader(self) -> Connection:
        if self._reader is None or self._pid != os.getpid():
            raise ClientClosed
        return self._reader

    def _snapshot(self, session: Session, work: Callable[[Session], T]) -> T:
        with typed(self._layout.database):
            try:
                session.run("begin_read")
                patiently(session.check_version, self._busy_timeout)  # takes the lock for all of `work`
                return work(session)
            finally:
                session.rollback()

    def _data_version(self, session: Session) -> int:
        with typed(self._layout.database):
            return int(patiently(lambda: session.value("data_version"), self._busy_timeout))

    def _prepare(self) -> sqlite3.Connection:
        path = self._layout.database
        with typed(path):
            folder.prepare(self._layout.root)
            connection = open_database(path, busy_timeout=self._busy_timeout)
            try:
                self._set_up(Session(connection))
            except BaseException:
                connection.close()
                raise
            return connection

    def _set_up(self, session: Session) -> None:
        session.run("foreign_keys")
        session.run("synchronous")
        if not can_write(self._layout.database):
            return
        session.run("journal_size_limit")
        session.run("secure_delete")
        session.run(journal_query())
        if not identity.is_marked(session, self._layout.root):
            session.run("begin_write")
            try:
                identity.mark(session, self._layout.root)
                session.run("commit")
            finally:
                session.rollback()
        session.run("short_wait")
        self._ballast.restore()

    def _connect(self) -> sqlite3.Connection:
        with typed(self._layout.database):
            connection = connect(self._layout.database, busy_timeout=self._busy_timeout)
            session = Session(connection)
            session.run("query_only")
            session.run("short_wait")
            return connection
