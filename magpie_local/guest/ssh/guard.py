"""A small process in the VM that ends our commands when nobody is left who could.

The death of a connection ends no command by itself: OpenSSH's server leaves them running. So each connection has one
shell in the VM that is told of process groups as they come and go, and ends those it knows when its input ends,
whether the connection broke or this whole process was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import asyncssh

from magpie_local.guest.ssh.command import GUARD

if TYPE_CHECKING:
    from typing import Any

#: Seconds for the guard to end what still runs when the connection is closed in order.
_FAREWELL = 3.0

_log = logging.getLogger("magpie.ssh")


class Guard:
    """The guard of one connection. It is started at once, and nobody waits for that."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self.connection = connection
        self._channel: asyncssh.SSHClientChannel[Any] | None = None
        #: What to say once it listens.
        self._unsaid: list[bytes] = []
        self._opening = asyncio.create_task(self._open(), name="ssh guard")

    def add(self, group: int | None) -> None:
        """Have a process group ended with the connection."""
        if group is not None:
            self._say(b"+ %d\n" % group)

    def remove(self, group: int | None) -> None:
        """Leave a process group be: its command has ended, and what it left behind was meant to stay."""
        if group is not None:
            self._say(b"- %d\n" % group)

    async def close(self) -> None:
        """Have what still runs ended, and wait for that: words on their way die with a connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await asyncio.wait((self._opening,))
                if self._channel is not None:
                    self._channel.write_eof()
                    await self._channel.wait_closed()
        self._opening.cancel()

    async def _open(self) -> None:
        try:
            channel, _ = await self.connection.create_session(asyncssh.SSHClientSession, GUARD, encoding=None)
        except (OSError, asyncssh.Error) as error:
            _log.debug("no guard over commands: %s", error)
            return
        self._channel = channel
        for words in self._unsaid:
            self._say(words)

    def _say(self, words: bytes) -> None:
        if self._channel is None:
            self._unsaid.append(words)
        elif not self._channel.is_closing():
            with contextlib.suppress(OSError):
                self._channel.write(words)
