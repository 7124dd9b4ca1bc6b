"""A SQLite connection on a thread of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

import aiosqlite

from magpie_local.store.session import Session

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs whole functions, not single statements.

    A function is one hop to the thread instead of one a statement, and it is indivisible: a caller that is cancelled
    stops waiting, while the function goes on to its commit (F11). Nothing else can come between its statements, so no
    lock is needed either.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # A forgotten close() must not keep the interpreter from ending (F5). What a daemon thread leaves undone,
        # nobody was told of.
        self._thread.daemon = True

    @classmethod
    async def opened(cls, connector: Callable[[], sqlite3.Connection]) -> Connection:
        """Return a connection whose `connector` ran on its thread; raises what that raised."""
        connection = cls(connector)
        try:
            await connection
        except BaseException:
            # The thread tells the loop when it ends; the loop must not be closed by then.
            await asyncio.to_thread(connection._thread.join)
            raise
        return connection

    async def run(self, work: Callable[[Session], T]) -> T:
        """Call `work` on the connection's thread."""
        return cast(T, await self._execute(self._call, work))  # type: ignore[no-untyped-call]

    def _call(self, work: Callable[[Session], T]) -> T:
        return work(Session(self._conn))
