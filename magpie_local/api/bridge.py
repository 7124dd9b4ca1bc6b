"""One call from a user's thread to the engine's loop.

`asyncio.run_coroutine_threadsafe` is nearly it. Two things don't work with it: a KeyboardInterrupt that lands inside
it leaves the caller without
the future while the coroutine runs on; and one that lands in `result()` leaves the coroutine running as well. So the
future is made first, by the
caller, and giving up is always possible: before the call has begun it is dropped, afterwards it is cancelled.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

T = TypeVar("T")


class Call(Generic[T]):
    """A coroutine on its way to another thread's loop; its outcome is in `future`."""

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self.future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """Hand it over; from any thread."""
        self._loop.call_soon_threadsafe(self._begin)

    def give_up(self) -> None:
        """Call it off; from any thread, also when it is not known whether start() got through."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        if self.future.done():
            return
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self.future.done():
            self._work.close()
            self._drop()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._drop()
        elif (error := task.exception()) is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())

    def _drop(self) -> None:
        self.future.cancel()
        self.future.set_running_or_notify_cancel()  # concurrent.futures.wait() sees no end without it
