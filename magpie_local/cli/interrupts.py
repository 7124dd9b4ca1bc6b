"""Signals while a job's output is shown: Ctrl-C asks the job to stop, a second one leaves it to itself."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self


class Leave(KeyboardInterrupt):
    """The user goes, the job stays. On its way up it ends a waiting call as any interrupt does."""


class Interrupts:
    """While entered, calls `stop` at the first SIGINT and raises Leave at the next.

    SIGTERM and SIGHUP (the terminal was closed) raise Leave at once: a job is not lost with its window.
    `stop` runs inside the handler, where anything may be half done: it must only pass the wish on.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        #: Whether Ctrl-C was pressed.
        self.asked = False
        #: The exit code for a user who left.
        self.left: int | None = None

    def __enter__(self) -> Self:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if signum != signal.SIGINT or self.asked:
            self.left = 128 + signum
            raise Leave
        self.asked = True
        self._stop()
