"""The engine's end of the channel to a libvirt host process (the wire: host)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie_local.errors import HypervisorUnavailable

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping

_MODULE = f"{__package__}.host"
#: Where the package lies: the host is to be of the same one.
_SOURCE = Path(__file__).resolve().parents[2]
#: The longest line taken: a list of thousands of VMs.
_LINE_LIMIT = 64 * 1024 * 1024
#: Seconds that a host gets to end by itself once its channel is closed: more than it takes to end held VMs.
_END_BUDGET = 5.0
#: Set before libvirt is loaded: its log says nothing that its errors don't, and grows.
_QUIET = {"LIBVIRT_LOG_OUTPUTS": "4:file:/dev/null"}


class ChannelLost(Exception):
    """The host, or libvirt's daemon behind it, has gone; what was asked may or may not have been done."""


class LibvirtError(Exception):
    """libvirt refused; `code` is its error code, or one of the host's own below zero."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class Channel:
    """A running host: questions and answers, and events."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._owner = os.getpid()
        self._events: Callable[[str, str], None] = lambda _condition, _vm: None
        self.lost = False
        self._listening = asyncio.create_task(self._listen(reader), name="libvirt host")

    @classmethod
    async def start(cls, environment: Mapping[str, str], events: Callable[[str, str], None]) -> Channel:
        """Start a host with `environment`; `events` is called on the loop with a condition and a VM's id.

        Raises:
            HypervisorUnavailable: no process can be started.
        """
        ours, theirs = socket.socketpair()
        try:
            owner = os.pidfd_open(os.getpid())
        except OSError as error:
            raise HypervisorUnavailable(f"This kernel has no pidfd_open ({error}); Linux 5.3 is needed.") from error
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", _MODULE, str(owner),
                stdin=theirs.fileno(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(owner,), start_new_session=True, env=_environment(environment),
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise HypervisorUnavailable(f"Can't start {sys.executable}: {error}.") from error
        finally:
            theirs.close()
            os.close(owner)
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        channel = cls(process, reader, writer)
        channel._events = events
        return channel

    async def ask(self, verb: str, *arguments: object) -> Any:
        """Have the host carry out one verb.

        Raises:
            LibvirtError, ChannelLost.
        """
        if os.getpid() != self._owner:
            raise HypervisorUnavailable("This hypervisor was opened before a fork; the child must open its own.")
        if self.lost:
            raise ChannelLost
        number = next(self._ids)
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(json.dumps({"id": number, "verb": verb, "args": arguments}).encode() + b"\n")
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def end(self) -> None:
        """End the host; VMs go on."""
        self.lost = True
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_BUDGET)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except OSError:
            pass  # The host was killed: the same as its end.
        finally:
            self._lose()

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("event") == "closed":
            self._lose()
        elif "event" in message:
            self._events(message["event"], message["vm"])
        elif (answer := self._waiting.get(message["id"])) is not None and not answer.done():
            if "code" in message:
                answer.set_exception(LibvirtError(message["code"], message["error"]))
            else:
                answer.set_result(message["value"])

    def _lose(self) -> None:
        self.lost = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelLost())


def _environment(base: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(_SOURCE), base.get("PYTHONPATH")]))
    return {**base, **_QUIET, "PYTHONPATH": path}
