"""All writes of one process: one transaction at a time, those that wait together in one commit."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from magpie_local.errors import HostDiskFull, StateUnavailable
from magpie_local.store.failures import typed
from magpie_local.store.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from magpie_local.store.ballast import Ballast
    from magpie_local.store.connection import Connection
    from magpie_local.store.session import Session

T = TypeVar("T")

#: Most writes in one commit: bounds how long one of them can wait for the others.
MOST_TOGETHER = 256


@dataclass(eq=False, frozen=True, slots=True)
class _Write:
    work: Callable[[Session], Any]
    #: Worth the ballast on a full disk: it ends something or frees space.
    vital: bool
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


class Writer:
    """Runs functions inside `BEGIN IMMEDIATE` ... `COMMIT` on one connection."""

    def __init__(self, connection: Connection, database: Path, ballast: Ballast, busy_timeout: float) -> None:
        self._connection = connection
        self._database = database
        self._ballast = ballast
        self._busy_timeout = busy_timeout
        self._queue: deque[_Write] = deque()
        self._drainer: asyncio.Task[None] | None = None

    async def write(self, work: Callable[[Session], T], *, vital: bool) -> T:
        """Return what `work` returns, once its changes are on the disk."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Write(work, vital, future))
        if self._drainer is None or self._drainer.done():
            self._drainer = asyncio.create_task(self._drain(), name="magpie store writer")
        return await future

    async def close(self) -> None:
        """Finish what was asked for, then close the connection."""
        if self._drainer is not None:
            await asyncio.wait([self._drainer])
        await self._connection.close()

    async def _drain(self) -> None:
        # While a batch commits on the thread, the next one gathers here: the more load, the fewer commits a write.
        while batch := self._next_batch():
            try:
                results = await self._connection.run(partial(self._settle, batch=batch))
            except asyncio.CancelledError:  # the loop ends; the thread finishes the batch
                for write in batch:
                    write.future.cancel()
                raise
            for write, result in zip(batch, results, strict=True):
                _answer(write.future, result)

    def _next_batch(self) -> list[_Write]:
        batch: list[_Write] = []
        while self._queue and len(batch) < MOST_TOGETHER:
            write = self._queue.popleft()
            if not write.future.done():  # cancelled before it began: it never happens
                batch.append(write)
        return batch

    def _settle(self, session: Session, batch: Sequence[_Write]) -> list[object]:
        """Commit all together; where that fails, each alone, so that each gets its own answer."""
        try:
            return self._transact(session, batch)
        except StateUnavailable as error:  # a lock held for 30 s: repeating would take as long again for each
            return [_Failure(error)] * len(batch)
        except Exception as error:  # not handled here: it belongs to the caller, who waits on the loop
            if len(batch) > 1:
                return [result for write in batch for result in self._settle(session, [write])]
            if isinstance(error, HostDiskFull) and batch[0].vital and self._ballast.release():
                return self._settle(session, batch)
            return [_Failure(error)]

    def _transact(self, session: Session, batch: Sequence[_Write]) -> list[object]:
        with typed(self._database):
            try:
                patiently(partial(session.run, "begin_write"), self._busy_timeout)
                session.check_version()
                results = [write.work(session) for write in batch]
                patiently(partial(session.run, "commit"), self._busy_timeout)
            except BaseException:
                session.rollback()
                raise
        self._ballast.tend()
        return results


def _answer(future: asyncio.Future[Any], result: object) -> None:
    if future.done():  # its caller was cancelled meanwhile; the database has the outcome (F11)
        return
    if isinstance(result, _Failure):
        future.set_exception(result.error)
    else:
        future.set_result(result)
