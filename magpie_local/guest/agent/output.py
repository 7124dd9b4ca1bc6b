"""The script's stdout and stderr: two pipes, relayed into the log in the order of the script's writes.

On one CPU the agent, a real-time process, is awake at each write at once, so that order is known. But to be woken at
each write costs more than the write. So the pipe that was read last is muted for a moment: it wakes nobody while the
script goes on writing to it. A write to the other pipe does, and then the muted one, whose contents are older, is
read first. Never more than one is muted: with both, the order of what gathers in them would be lost.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop, Timer
    from magpie_local.guest.agent.masked import MaskedLog

#: Seconds for which a pipe stays muted. It bounds how late output can reach the log, and how wrong its time can be.
PAUSE = 0.004
#: What one pipe holds: a script that writes in bursts need not wait for the agent.
PIPE_SIZE = 1024 * 1024
#: Seconds between two reads of what nobody wants any more: a flood must not keep the agent busy.
DROP_PAUSE = 0.05


class Output:
    """Relays pipes into the log until each ends, or all are drained."""

    def __init__(self, loop: Loop, log: Log | MaskedLog) -> None:
        self._loop = loop
        self._log = log
        self._kinds: dict[int, int] = {}
        self._muted: int | None = None
        self._timer: Timer | None = None
        self._dropping = False

    def attach(self, kind: int, fd: int) -> None:
        """Relay the pipe `fd` as frames of `kind`, and close it in the end."""
        os.set_blocking(fd, False)
        _enlarge(fd)
        self._kinds[fd] = kind
        self._loop.watch(fd, lambda: self._ready(fd))

    def drain(self) -> None:
        """Relay what is in the pipes now, and close them."""
        if self._muted is not None:
            self._relay(self._muted)
        for fd in list(self._kinds):
            self._relay(fd)
            self._detach(fd)

    def abandon(self) -> None:
        """Relay what is in the pipes now; read and drop what comes later, so that whoever writes it can go on."""
        self._unmute()
        self._dropping = True
        for fd in list(self._kinds):
            if not self._relay(fd):
                self._detach(fd)

    def _ready(self, fd: int) -> None:
        if self._dropping:
            self._drop(fd)
            return
        if self._muted is not None and self._muted != fd:
            self._relay(self._muted)
        self._unmute()
        if self._relay(fd):
            self._loop.mute(fd)
            self._muted = fd
            self._timer = self._loop.after(PAUSE, self._unmute)
        else:
            self._detach(fd)

    def _drop(self, fd: int) -> None:
        if not os.read(fd, PIPE_SIZE):
            self._detach(fd)
            return
        self._loop.mute(fd)
        self._loop.after(DROP_PAUSE, lambda: self._listen_again(fd))

    def _listen_again(self, fd: int) -> None:
        if fd in self._kinds:  # it can end while it is muted
            self._loop.unmute(fd)

    def _unmute(self) -> None:
        if self._muted is not None:
            self._loop.unmute(self._muted)
            self._loop.cancel(self._timer)
            self._muted = None

    def _relay(self, fd: int) -> bool:
        """Move what is in the pipe into the log; return whether more may come.

        No more than a pipe holds: a background process in a session of its own may write for ever.
        """
        left = PIPE_SIZE
        while left > 0:
            try:
                count = self._log.relay(self._kinds[fd], fd)
            except BlockingIOError:
                return True
            if count == 0:
                return False
            left -= count
        return True

    def _detach(self, fd: int) -> None:
        if fd == self._muted:
            self._unmute()
        self._loop.unwatch(fd)
        os.close(fd)
        del self._kinds[fd]


def _enlarge(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return  # not root, and over the user's share of pipe memory: the usual 64 KiB work as well
