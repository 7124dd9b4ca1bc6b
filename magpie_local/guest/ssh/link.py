"""One SSH connection to a VM, shared by all who use it, and made anew when it broke."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import asyncssh

from magpie_local.errors import HostKeyMismatch, SshError, SshLost, SshUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.ports.shell import SshTarget

#: Seconds within which a connection must come about. A server that was killed is back within one or two.
PATIENCE = 15.0
#: Seconds for one try: connecting, exchanging keys, logging in. An emulated VM takes up to two.
_TRY_TIMEOUT = 10.0
#: Seconds between tries, at first and at most.
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: Seconds of silence after which the server is asked for a sign of life, and how many it may leave unanswered.
_KEEPALIVE, _KEEPALIVES = 15, 3
#: The first is two fifths faster here than the one that OpenSSH prefers, and as fast in an emulated VM.
_CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")
#: Seconds for an orderly goodbye.
_GOODBYE = 2.0

_log = logging.getLogger("magpie.ssh")


class SshLink:
    """The connection to one target. It belongs to one event loop."""

    def __init__(self, target: SshTarget, *, patience: float = PATIENCE) -> None:
        self.target = target
        self._patience = patience
        self._connection: asyncssh.SSHClientConnection | None = None
        #: The SFTP session, and the connection it is part of.
        self._sftp: tuple[asyncssh.SFTPClient, asyncssh.SSHClientConnection] | None = None
        self._connecting = asyncio.Lock()
        self._sftp_opening = asyncio.Lock()
        self._closed = False

    async def connection(self) -> asyncssh.SSHClientConnection:
        """Return the connection, a new one when there is none or it broke.

        Raises:
            SshUnavailable: nothing answered in time, it refused our key, or this link was closed.
            HostKeyMismatch: the server has another key.
        """
        async with self._connecting:
            self._check_open()
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect()
            return self._connection

    async def sftp(self) -> asyncssh.SFTPClient:
        """Return the connection's SFTP session; all share one.

        Raises:
            SshError: as `connection`, or the server has no SFTP.
        """
        async with self._sftp_opening:
            connection = await self.connection()
            if self._sftp is None or self._sftp[1] is not connection:
                with told_as_ssh_errors(f"{self._where()} offers no SFTP"):
                    # Names are bytes to a file system: those that are no UTF-8 come through as Python's own do.
                    self._sftp = await connection.start_sftp_client(path_errors="surrogateescape"), connection
            return self._sftp[0]

    def drop_sftp(self) -> None:
        """Forget the SFTP session, which has ended by itself; the next who asks gets a new one."""
        self._sftp = None

    async def close(self) -> None:
        """Close the connection; no new one is made from now on."""
        self._closed = True
        async with self._connecting:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            try:
                async with asyncio.timeout(_GOODBYE):
                    await connection.wait_closed()
            except TimeoutError:
                connection.abort()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        deadline = asyncio.get_running_loop().time() + self._patience
        pause = _PAUSE
        while True:
            try:
                async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + _TRY_TIMEOUT)):
                    return await self._try()
            except (OSError, asyncssh.Error, TimeoutError) as error:
                if asyncio.get_running_loop().time() + pause >= deadline or self._closed:
                    raise SshUnavailable(
                        f"{self._where()} did not answer within {self._patience:g} s: {_reason(error)}."
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
            raise SshUnavailable(f"The connection to {self._where()} was closed here.", hint="Connect again.")

    def _where(self) -> str:
        return f"The SSH server at {self.target.host}:{self.target.port}"


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
