"""One SSH connection to a VM, shared by all who use it, and made anew when it broke."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh

from magpie_local.errors import HostKeyMismatch, SshError, SshLost, SshUnavailable
from magpie_local.ports.shell import LINGER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from magpie_local.ports.shell import SshTarget

T = TypeVar("T")

#: Seconds within which a connection must come about, login included. A server that was killed is back within one or
#: two; a VM that was asleep has its port accept at once, and may be silent for many more.
PATIENCE = 30.0
#: Seconds for which a port that nobody listens on is tried: a VM that is there has somebody who does.
_REFUSED = 15.0
#: Seconds between tries, at first and at most.
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: Seconds of silence after which the server is asked for a sign of life, and how many it may leave unanswered.
_KEEPALIVE, _KEEPALIVES = 15, 3
#: The first is two fifths faster than the one that OpenSSH prefers where CPUs help with AES, as they do under KVM. An
#: emulated VM has a tenth more work with it (measured: 3.3 s of CPU time for 32 MiB, against 3.0 s).
_CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")
#: Seconds for an orderly goodbye.
_GOODBYE = 2.0

_log = logging.getLogger("magpie.ssh")


class SshLink:
    """The connection to one target. It belongs to one event loop.

    Args:
        target: where the server is.
        patience: seconds within which a connection must come about.
        linger: seconds after which one is closed that nobody uses.
    """

    def __init__(self, target: SshTarget, *, patience: float = PATIENCE, linger: float = LINGER) -> None:
        self.target = target
        self._patience = patience
        self._linger = linger
        self._users = 0
        #: Closes the connection, unless somebody uses it before.
        self._timer: asyncio.TimerHandle | None = None
        #: Connections that nobody used, while they are closed.
        self._parting: set[asyncio.Task[None]] = set()
        self._connection: asyncssh.SSHClientConnection | None = None
        #: The SFTP session, and the connection it is part of.
        self._sftp: tuple[asyncssh.SFTPClient, asyncssh.SSHClientConnection] | None = None
        #: The attempt under way, which all who wait share: one after the other would each wait for as long.
        self._connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._sftp_opening = asyncio.Lock()
        self._closed = False

    async def connection(self) -> asyncssh.SSHClientConnection:
        """Return the connection, a new one when there is none or it broke.

        Raises:
            SshUnavailable: nothing answered in time, it refused our key, or this link was closed.
            HostKeyMismatch: the server has another key.
        """
        self._check_open()
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="ssh connect")
            self._connecting.add_done_callback(_look)
        attempt = self._connecting
        await asyncio.wait((attempt,))
        if attempt.cancelled():
            raise self._was_closed()
        return attempt.result()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the connection as long as the context is open."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            yield
        finally:
            self._users -= 1
            if not (self._users or self._closed):
                self._timer = asyncio.get_running_loop().call_later(self._linger, self._rest)

    async def using(self, do: Callable[[asyncssh.SSHClientConnection], Awaitable[T]]) -> T:
        """Return what `do` makes of the connection; where that turns out broken, it is called again with a new one.

        Raises:
            SshUnavailable, HostKeyMismatch: as `connection`.
            OSError, asyncssh.Error: what `do` raised.
        """
        connection = await self.connection()
        try:
            return await do(connection)
        except (OSError, asyncssh.Error):
            if not connection.is_closed():
                raise
        return await do(await self.connection())

    async def sftp(self) -> asyncssh.SFTPClient:
        """Return the connection's SFTP session; all share one.

        Raises:
            SshError: as `connection`, or the server has no SFTP.
        """
        connection = await self.connection()
        async with self._sftp_opening:
            if self._sftp is None or self._sftp[1] is not connection:
                with told_as_ssh_errors(f"{self._where()} offers no SFTP"):
                    self._sftp = await self.using(_start_sftp)
            return self._sftp[0]

    def drop_sftp(self) -> None:
        """Forget the SFTP session, which has ended by itself; the next who asks gets a new one."""
        self._sftp = None

    async def close(self) -> None:
        """Close the connection; no new one is made from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        if self._parting:
            await asyncio.wait(self._parting)
        connection, self._connection = self._connection, None
        if connection is not None:
            await _part(connection)

    def _rest(self) -> None:
        """Close the connection, which nobody uses; the next who wants one makes it anew."""
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            _log.debug("%s: closed, unused for %g s", self._where(), self._linger)
            task = asyncio.create_task(_part(connection), name="ssh goodbye")
            self._parting.add(task)
            task.add_done_callback(self._parting.discard)

    async def _connect(self) -> asyncssh.SSHClientConnection:
        with self.in_use():  # those who asked for it may all have left by the time it is there
            self._connection = await self._persevere()
            return self._connection

    async def _persevere(self) -> asyncssh.SSHClientConnection:
        clock = asyncio.get_running_loop().time
        began, pause = clock(), _PAUSE
        while True:
            try:
                async with asyncio.timeout_at(began + self._patience):
                    return await self._try()
            except (OSError, asyncssh.Error, TimeoutError) as error:
                refused = isinstance(error, ConnectionRefusedError)
                patience = min(self._patience, _REFUSED) if refused else self._patience
                if clock() + pause >= began + patience:
                    raise SshUnavailable(
                        f"{self._where()} did not answer within {patience:g} s: {_reason(error)}."
                    ) from error
                _log.debug("%s: %s; trying again", self._where(), _reason(error))
            # A forwarded port accepts before the server listens, so refusals have many forms.
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try(self) -> asyncssh.SSHClientConnection:
        target = self.target
        try:
            return await asyncssh.connect(
                target.host,
                target.port,
                username=target.username,
                client_keys=[str(target.folder / "key")],
                # In memory: asyncssh would check nothing with None, and read the user's file without the argument.
                known_hosts=([asyncssh.import_public_key(target.host_key)], [], []),
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                gss_host=None,
                compression_algs=None,
                encryption_algs=_CIPHERS,
                keepalive_interval=_KEEPALIVE,
                keepalive_count_max=_KEEPALIVES,
            )
        except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
            raise HostKeyMismatch(f"{self._where()} has another key than the job's VM: {_reason(error)}.") from error
        except asyncssh.PermissionDenied as error:
            raise SshUnavailable(f"{self._where()} refuses {target.username!r} with our key.", hint="") from error
        except (FileNotFoundError, asyncssh.KeyImportError) as error:
            raise SshUnavailable(f"Our key in {target.folder} can't be used: {_reason(error)}.", hint="") from error

    def _check_open(self) -> None:
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> SshUnavailable:
        return SshUnavailable(f"The connection to {self._where()} was closed here.", hint="Connect again.")

    def _where(self) -> str:
        return f"The SSH server at {self.target.host}:{self.target.port}"


async def _part(connection: asyncssh.SSHClientConnection) -> None:
    """Close a connection in order, within reason."""
    connection.close()
    try:
        async with asyncio.timeout(_GOODBYE):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()


async def _start_sftp(
    connection: asyncssh.SSHClientConnection,
) -> tuple[asyncssh.SFTPClient, asyncssh.SSHClientConnection]:
    # Names are bytes to a file system: those that are no UTF-8 come through as Python's own do.
    return await connection.start_sftp_client(path_errors="surrogateescape"), connection


def _look(attempt: asyncio.Task[Any]) -> None:
    """Take note of how an attempt ended: those who asked for it may all have left."""
    if not attempt.cancelled():
        attempt.exception()


@contextlib.contextmanager
def told_as_ssh_errors(what: str) -> Iterator[None]:
    """Raise SshLost for what asyncssh raises when a connection breaks, SshError where it can't open a channel.

    `what` begins the message: what failed.
    """
    try:
        yield
    except (ConnectionError, asyncssh.DisconnectError, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
        raise SshLost(f"{what}: {_reason(error)}.") from error
    except asyncssh.ChannelOpenError as error:
        raise SshError(f"{what}: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """Return what an error says, without a full stop; a server's words are cut."""
    if isinstance(error, TimeoutError):
        return "it is silent"
    text = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error) or type(error).__name__
    return str(text).splitlines()[0][:200].rstrip(".")
