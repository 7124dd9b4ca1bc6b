"""Commands in a VM over its one SSH connection (the Shell port)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncssh

from magpie_local.errors import InvalidInput, SshError, SshLost, SshUnavailable
from magpie_local.guest.ssh.command import end_group, mark, wrap
from magpie_local.guest.ssh.files import SshFilesOfVm
from magpie_local.guest.ssh.forward import forward
from magpie_local.guest.ssh.guard import Guard
from magpie_local.guest.ssh.link import SshLink
from magpie_local.guest.ssh.session import CommandSession, abandon
from magpie_local.ports.shell import LINGER, OUTPUT_LIMIT, ShellResult

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from magpie_local.guest.ssh.command import Wrapped
    from magpie_local.ports.shell import OnOutput, ShellFiles, SshTarget

Channel: TypeAlias = "asyncssh.SSHClientChannel[Any]"

#: Most commands at once on one connection; further ones wait. The guest's sshd takes 100 sessions (MaxSessions): the
#: rest is for SFTP, and for ending commands.
MAX_COMMANDS = 80
#: Seconds for a command's process id to come, once it is to be ended.
_START_WAIT = 5.0
#: Seconds for a process group to be ended, the second after SIGTERM included.
_END_WAIT = 10.0
#: Seconds for the last output and the exit status of a command whose group was ended.
_LAST_WORDS = 2.0

_log = logging.getLogger("magpie.ssh")


class SshShell:
    """A VM reached over SSH (the Shell port). It belongs to one event loop.

    Args:
        target: where it is.
        linger: seconds after which a connection that nobody uses is closed.
    """

    def __init__(self, target: SshTarget, *, linger: float = LINGER) -> None:
        self._link = SshLink(target, linger=linger)
        self._files = SshFilesOfVm(self._link)
        self._slots = asyncio.Semaphore(MAX_COMMANDS)
        self._guard: Guard | None = None
        self._running: set[CommandSession] = set()
        self._closing = False
        #: Endings of commands, which outlive a caller who was cancelled twice.
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def files(self) -> ShellFiles:
        """The VM's files."""
        return self._files

    async def open(self) -> None:
        """Connect.

        Raises:
            SshUnavailable: nothing answers, or it refuses our key.
            HostKeyMismatch: the server has another key than the target's.
        """
        await self._link.connection()

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
        limit: int = OUTPUT_LIMIT,
        on_output: OnOutput | None = None,
    ) -> ShellResult:
        """Run a command and return how it ended (ports.shell has the particulars)."""
        if timeout is not None and not timeout > 0:
            raise InvalidInput("timeout", timeout, "a number of seconds above 0, or None")
        nonce = secrets.token_hex(8)
        wrapped = wrap(command, env=env, cwd=cwd, nonce=nonce)
        async with self._slots:
            if self._closing:
                raise SshUnavailable("This connection to the VM was closed here.", hint="Connect again.")
            began = asyncio.get_running_loop().time()
            ours = CommandSession(mark(nonce), limit=limit, on_output=on_output)
            self._running.add(ours)
            try:
                with self._link.in_use():
                    timed_out = await self._run(ours, wrapped, stdin or b"", timeout)
            finally:
                self._running.discard(ours)
        if ours.failed.done():
            raise ours.failed.result()
        if not (ours.has_ended or timed_out):
            raise SshLost()
        out, err = ours.outputs["stdout"], ours.outputs["stderr"]
        return ShellResult(
            exit_code=ours.exit_code, signal=ours.signal, stdout=out.whole(), stderr=err.whole(),
            truncated=out.truncated or err.truncated, timed_out=timed_out,
            duration=asyncio.get_running_loop().time() - began,
        )  # fmt: skip

    def forward(
        self, guest_port: int, *, guest_host: str = "127.0.0.1", local_port: int = 0, local_host: str = "127.0.0.1"
    ) -> AbstractAsyncContextManager[tuple[str, int]]:
        """Make a TCP port of the VM reachable here while the context is open; gives (host, port)."""
        return forward(
            self._link, guest_port, guest_host=guest_host, local_port=local_port, local_host=local_host
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connection, and end what still runs on it."""
        self._closing = True
        if self._running:  # the guard can end only what it has been told of
            await asyncio.wait([one.group for one in self._running], timeout=_START_WAIT)
        if self._endings:
            await asyncio.wait(self._endings)
        if self._guard is not None:
            await self._guard.close()
        await self._link.close()

    async def _run(self, ours: CommandSession, wrapped: Wrapped, stdin: bytes, timeout: float | None) -> bool:
        """Run a command to its end; return whether its time was over."""
        try:
            channel, guard = await self._start(ours, wrapped.text)
        except BaseException:
            ours.give_up()
            raise
        ours.group.add_done_callback(lambda group: guard.add(group.result()))
        self._feed(channel, wrapped.preamble + stdin)
        try:
            return await self._finish(channel, ours, timeout)
        finally:
            if ours.group.done():
                guard.remove(ours.group.result())

    async def _start(self, ours: CommandSession, text: str) -> tuple[Channel, Guard]:
        """Have the server run a command. A connection that turns out broken is replaced once, before it was asked to.

        Raises:
            SshUnavailable: it was not started.
            SshLost: the connection broke just then.
        """

        async def create(connection: asyncssh.SSHClientConnection) -> tuple[Channel, Guard]:
            try:
                return await self._create(connection, ours, text), self._guard_of(connection)
            except (OSError, asyncssh.Error) as error:
                if ours.has_channel and connection.is_closed():
                    raise SshLost() from error
                raise

        try:
            return await self._link.using(create)
        except (OSError, asyncssh.Error) as error:
            raise SshUnavailable(f"The VM's SSH server would not run a command: {error}.", hint="") from error

    async def _create(self, connection: asyncssh.SSHClientConnection, ours: CommandSession, text: str) -> Channel:
        creating = asyncio.ensure_future(connection.create_session(lambda: ours, text, encoding=None))
        try:
            channel, _ = await asyncio.shield(creating)
        except asyncio.CancelledError:
            await self._until_ended(self._undo(creating, ours))
            raise
        return channel

    async def _undo(self, creating: asyncio.Future[tuple[Channel, Any]], ours: CommandSession) -> None:
        """End a command that nobody wants any more by the time it starts."""
        with contextlib.suppress(OSError, asyncssh.Error):
            channel, _ = await creating
            self._feed(channel, b"")
            await self._end(channel, ours)

    def _feed(self, channel: Channel, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it may have ended by now, and then reads nothing
            channel.write(data)
            channel.write_eof()

    async def _finish(self, channel: Channel, ours: CommandSession, timeout: float | None) -> bool:
        """Wait for a command's end, and bring it about where needed; return whether its time was over."""
        try:
            done, _ = await asyncio.wait(
                (ours.closed, ours.failed), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            await self._until_ended(self._end(channel, ours))
            raise
        if not ours.closed.done():
            await self._until_ended(self._end(channel, ours))
        return not done

    async def _until_ended(self, ending: Coroutine[Any, Any, None]) -> None:
        """Wait for an ending; it goes on when the wait is cancelled."""
        task = asyncio.create_task(self._on_the_link(ending), name="end ssh command")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        await asyncio.shield(task)

    async def _on_the_link(self, ending: Coroutine[Any, Any, None]) -> None:
        with self._link.in_use():
            await ending

    async def _end(self, channel: Channel, ours: CommandSession) -> None:
        """End a command's process group, and close its channel once the last output is here."""
        await asyncio.wait((ours.group,), timeout=_START_WAIT)
        group = ours.group.result() if ours.group.done() else None
        if group is not None and not ours.closed.done():
            await self._end_group(group)
            # A process that left the group may hold the output open for ever.
            await asyncio.wait((ours.closed,), timeout=_LAST_WORDS)
        abandon(channel)

    async def _end_group(self, group: int) -> None:
        try:
            async with asyncio.timeout(_END_WAIT):
                connection = await self._link.connection()
                await connection.run(end_group(group), stdin=asyncssh.DEVNULL, encoding=None)
        except (OSError, TimeoutError, asyncssh.Error, SshError) as error:
            _log.warning("process group %d in the VM could not be ended: %s", group, error)

    def _guard_of(self, connection: asyncssh.SSHClientConnection) -> Guard:
        if self._guard is None or self._guard.connection is not connection:
            self._guard = Guard(connection)
        return self._guard
