"""An event loop of epoll and timers."""

from __future__ import annotations

import select
import time

IN, OUT, EDGE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """One call in the future."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], object]) -> None:
        self.due = due
        self.action = action


class Loop:
    """Calls handlers when their file descriptors are ready and timers when they are due, until stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._timers: list[Timer] = []
        self._running = True

    def watch(self, fd: int, handler: Callable[[], object], events: int = IN) -> None:
        """Call `handler` whenever `fd` is ready (hang-ups included)."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; call it before the descriptor is closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events from now on; what holds already counts as new."""
        self._epoll.modify(fd, events)

    def mute(self, fd: int) -> None:
        """Do not call the handler of `fd` when it can be read, only when it hung up."""
        self._epoll.modify(fd, 0)

    def unmute(self, fd: int) -> None:
        """Undo `mute`."""
        self._epoll.modify(fd, IN)

    def after(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Call `action` once, not before `seconds` of CLOCK_MONOTONIC have passed."""
        timer = Timer(time.monotonic() + seconds, action)
        self._timers.append(timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer; one that has fired, or None, is nothing."""
        if timer in self._timers:
            self._timers.remove(timer)

    def stop(self) -> None:
        """Have `run` return after the present round."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        while self._running:
            # epoll lists descriptors in the order they became ready: that keeps stdout and stderr in order.
            for fd, _events in self._epoll.poll(self._pause()):
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler()
            self._fire()

    def _pause(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, min(timer.due for timer in self._timers) - time.monotonic())

    def _fire(self) -> None:
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.due <= now]:
            # An earlier one may have cancelled it.
            if timer in self._timers:
                self._timers.remove(timer)
                timer.action()
