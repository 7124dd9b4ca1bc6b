"""The control port: messages and blobs in, messages out, clients that come and go.

Nothing here ever waits for the host. An answer that can't be written is soon dropped: whoever connects later asks again
with hello. Bytes of a client that went away, or fell silent in the middle of something, are forgotten (`lost`).
"""

from __future__ import annotations

import os
import time

from magpie_local.domain import frames
from magpie_local.guest.agent.loop import EDGE, IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from magpie_local.guest.agent.loop import Loop, Timer

#: Seconds after which a silent client's half-sent bytes are forgotten. Needed where a guest missed that one host
#: process left and the next one came: nothing in the stream tells.
SILENCE = 10.0
#: Seconds between looks at a port that has no event to offer.
RECHECK = 1.0
#: Most bytes that are read at once, and about how many are looked at together.
_READ, _ENOUGH = 64 * 1024, 256 * 1024
#: Seconds for which an answer that nobody takes is kept.
KEEP = 0.25


class Control:
    """What both kinds of port have in common.

    `receive` gets each message (dict) and blob (bytes); `lost` is called when what came before is void.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._reader = frames.ControlReader()
        self._heard = time.monotonic()
        self.receive: Callable[[dict[str, object] | bytes], None] = _ignore
        self.lost: Callable[[], None] = _nothing
        loop.after(RECHECK, self._recheck)

    def send(self, message: dict[str, object]) -> None:
        """Send a message if somebody is there who takes it now."""
        raise NotImplementedError

    def _look(self) -> None:
        raise NotImplementedError

    def _read(self, fd: int) -> bool:
        """Take all that `fd` offers; return whether a client is still there."""
        is_there = True
        while is_there:
            data, is_there = _gathered(fd)
            if data:
                self._heard = time.monotonic()
                self._take(data)
            if not is_there:
                self._forget()
            elif len(data) < _ENOUGH:
                break
        return is_there

    def _take(self, data: bytes) -> None:
        try:
            items = self._reader.feed(data)
        except frames.FrameError:
            self._forget()
            return
        for item in items:
            self.receive(item)

    def _forget(self) -> None:
        self._reader = frames.ControlReader()
        self.lost()

    def _recheck(self) -> None:
        self._look()
        if time.monotonic() - self._heard > SILENCE:
            self._heard = time.monotonic()
            self._forget()
        self._loop.after(RECHECK, self._recheck)


class VirtioControl(Control):
    """A virtio-serial port.

    While no client is connected it reports a hang-up for ever (hence edge-triggered, and the recheck should an edge
    be missed), reads as ended, and would block writers (hence O_NONBLOCK).

    The first words of a client overtake the news that it is there: a worker of the kernel brings those, and the agent
    is a real-time process. So an answer that nobody takes is kept for a moment, until the port can be written to.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        super().__init__(loop)
        self._fd = fd
        self._unsent = b""
        self._dropping: Timer | None = None
        loop.watch(fd, self._look, IN | EDGE)

    def send(self, message: dict[str, object]) -> None:
        """Send a message if somebody is there who takes it now, or very soon."""
        self._unsent += frames.message_frame(message)
        self._flush()
        if self._unsent and self._dropping is None:
            self._dropping = self._loop.after(KEEP, self._relax)
            self._loop.change(self._fd, IN | OUT | EDGE)

    def _look(self) -> None:
        if self._unsent:
            self._flush()
        self._read(self._fd)

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
        except OSError:
            return  # nobody is there
        if not self._unsent and self._dropping is not None:
            self._relax()

    def _relax(self) -> None:
        """Wait for nobody any more; what is unsent is dropped."""
        self._unsent = b""
        self._loop.cancel(self._dropping)
        self._dropping = None
        self._loop.change(self._fd, IN | EDGE)


class SocketControl(Control):
    """A listening UNIX socket with one client at a time; others wait, as they do before QEMU's."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        super().__init__(loop)
        listener.setblocking(False)
        self._listener = listener
        self._client: socket.socket | None = None
        loop.watch(listener.fileno(), self._accept)

    def send(self, message: dict[str, object]) -> None:
        """Send a message if somebody is there who takes it now."""
        if self._client is None:
            return
        try:
            self._client.send(frames.message_frame(message))
        except OSError:
            return  # it is leaving, or does not read

    def _accept(self) -> None:
        try:
            self._client, _ = self._listener.accept()
        except OSError:
            return  # it left again
        self._client.setblocking(False)
        self._loop.unwatch(self._listener.fileno())
        self._loop.watch(self._client.fileno(), self._look)

    def _look(self) -> None:
        if self._client is None or self._read(self._client.fileno()):
            return
        self._loop.unwatch(self._client.fileno())
        self._client.close()
        self._client = None
        self._loop.watch(self._listener.fileno(), self._accept)


def _gathered(fd: int) -> tuple[bytes, bool]:
    """Return what `fd` offers now, up to some size, and whether a client is still there.

    A virtio port gives 4 KiB at a time: to look for frames after each would make uploads half as fast.
    """
    parts: list[bytes] = []
    size = 0
    while size < _ENOUGH:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return b"".join(parts), True
        except OSError:
            data = b""
        if not data:
            return b"".join(parts), False
        parts.append(data)
        size += len(data)
    return b"".join(parts), True


def _ignore(item: object) -> None:
    """Drop what comes before anybody listens."""


def _nothing() -> None:
    """Do nothing."""
