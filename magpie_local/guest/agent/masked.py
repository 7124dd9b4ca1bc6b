"""The log for the output of a script that knows secrets."""

from __future__ import annotations

import os

from magpie_local.guest.agent.forms import foldable, forms
from magpie_local.guest.agent.masking import Masking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop, Timer

#: Seconds after which a stream counts as paused: a prompt must not wait for its end.
PAUSE = 0.1
_READ = 64 * 1024


class MaskedLog:
    """Stands before the log, and lets no secret through in a stream of output.

    Args:
        loop: the agent's loop.
        log: gets what may be seen.
        secrets: the values; those with fewer than four characters are let through.
    """

    def __init__(self, loop: Loop, log: Log, secrets: list[str]) -> None:
        self._loop = loop
        self._log = log
        self._forms, self._foldable = forms(secrets), foldable(secrets)
        #: By the kind of the stream's frames.
        self._streams: dict[int, Masking] = {}
        self._timers: dict[int, Timer] = {}

    def relay(self, kind: int, fd: int) -> int:
        """Move what one read of `fd` gives into the log; return the number of bytes read, 0 at its end.

        Raises:
            BlockingIOError: there is nothing to read now.
        """
        data = os.read(fd, _READ)
        if data:
            stream = self._streams.get(kind)
            if stream is None:
                stream = self._streams[kind] = Masking(self._forms, self._foldable)
            self._log.write(kind, stream.feed(data))
            self._loop.cancel(self._timers.pop(kind, None))
            if stream.holds:
                self._timers[kind] = self._loop.after(PAUSE, lambda: self._log.write(kind, stream.release()))
        return len(data)

    def flush(self) -> None:
        """Write what is held back; the output is complete."""
        for kind, stream in self._streams.items():
            self._loop.cancel(self._timers.pop(kind, None))
            self._log.write(kind, stream.finish())
