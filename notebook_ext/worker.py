"""One thread with an asyncio loop, for all that goes on behind the cells: displays, followers, requests.

The kernel's own loop stands still while a cell runs, and a thread for each job would be many.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

T = TypeVar("T")


class Worker:
    """Runs coroutines; the thread begins with the first one, and never keeps the kernel from ending."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work`; from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def call(self, act: Callable[..., object], *values: object) -> None:
        """Have `act` called with `values` on the worker's thread; from any thread, and returns at once."""
        self._running().call_soon_threadsafe(act, *values)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="magpie notebook", daemon=True).start()
        return self._loop
