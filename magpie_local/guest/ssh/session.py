"""The host's side of one running command: what comes from it, piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncssh

from magpie_local.guest.ssh.command import MAX_NOISE

if TYPE_CHECKING:
    from magpie_local.ports.shell import OnOutput, Stream

#: Most digits of a process id.
_DIGITS = 10


class Kept:
    """The first bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Take what still fits."""
        room = self._limit - len(self._bytes)
        self._bytes += data[:room] if room > 0 else b""
        self.truncated |= len(data) > room

    def whole(self) -> bytes:
        """Return what was kept."""
        return bytes(self._bytes)


class MarkFilter:
    """Takes the line with the command's process id out of its output.

    What comes before the mark was printed by the login itself, and stays.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held = b""
        self._is_over = False
        #: The process id, once the mark has come.
        self.pid: int | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the output in `data`, and what was held back before."""
        if self._is_over:
            return data
        self._held += data
        before, found, after = self._held.partition(self._mark)
        digits, ended, rest = after.partition(b"\n")
        if found and ended:
            if digits.isdigit() and len(digits) <= _DIGITS and int(digits) > 1:  # kill takes -1 for everybody
                self.pid = int(digits)
            return self._over(before + rest)
        return self._over(self._held) if len(self._held) > MAX_NOISE else b""

    def flush(self) -> bytes:
        """Return what is held back; no mark will come."""
        return self._over(self._held)

    def _over(self, output: bytes) -> bytes:
        self._is_over, self._held = True, b""
        return output


class CommandSession(asyncssh.SSHClientSession[bytes]):
    """Collects one command's output and its end."""

    def __init__(self, mark: bytes, *, limit: int, on_output: OnOutput | None) -> None:
        loop = asyncio.get_running_loop()
        self.outputs: dict[Stream, Kept] = {"stdout": Kept(limit), "stderr": Kept(limit)}
        #: Whether a channel came about: from then on the command may have been started.
        self.has_channel = False
        self.exit_code: int | None = None
        self.signal: str | None = None
        #: Done when the channel is closed; then all output is here.
        self.closed: asyncio.Future[None] = loop.create_future()
        #: Done when the process id is known, which is its process group's as well, or never will be.
        self.group: asyncio.Future[int | None] = loop.create_future()
        #: What the caller's own function raised, which ends the command.
        self.failed: asyncio.Future[BaseException] = loop.create_future()
        self._filter = MarkFilter(mark)
        self._on_output = on_output

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Note that there is a channel; the server is asked to run the command next."""
        self.has_channel = True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Take a piece of output."""
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._tell("stderr", data)
            return
        self._tell("stdout", self._filter.feed(data))
        if self._filter.pid is not None and not self.group.done():
            self.group.set_result(self._filter.pid)

    def exit_status_received(self, status: int) -> None:
        """Take the exit code."""
        self.exit_code = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """Take the name of the signal that ended the command."""
        self.signal = signal

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come."""
        self._tell("stdout", self._filter.flush())
        self.give_up()

    def give_up(self) -> None:
        """Note that there is nothing to wait for."""
        for future in (self.group, self.closed):
            if not future.done():
                future.set_result(None)

    @property
    def has_ended(self) -> bool:
        """Whether the server told how the command ended."""
        return self.exit_code is not None or self.signal is not None

    def _tell(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        self.outputs[stream].add(data)
        if self._on_output is None or self.failed.done():
            return
        try:
            self._on_output(stream, data)
        except Exception as error:  # the caller's, who gets it from run(); here it would end the whole connection
            self.failed.set_result(error)


def abandon(channel: asyncssh.SSHClientChannel[Any]) -> None:
    """Close a channel whose command is of no more interest."""
    with contextlib.suppress(OSError, asyncssh.Error):
        channel.abort()
