"""Ports of a VM made reachable on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncssh

from magpie_local.errors import InvalidInput, PortUnavailable, SshError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.guest.ssh.link import SshLink

_CHUNK = 64 * 1024
#: Makes close() drop what is unsent and reset (struct linger: on, 0 seconds).
_NO_LINGER = struct.pack("ii", 1, 0)

_log = logging.getLogger("magpie.ssh")


@asynccontextmanager
async def forward(
    link: SshLink, guest_port: int, *, guest_host: str = "127.0.0.1", local_port: int = 0, local_host: str = "127.0.0.1"
) -> AsyncIterator[tuple[str, int]]:
    """Forward TCP connections to a port of an address of the VM while the context is open; gives (host, port).

    Each connection asks for the SSH connection anew, so the forward outlives one that broke.

    Raises:
        InvalidInput: a port or the address is none.
        PortUnavailable: the local port is taken.
    """
    _check_port("guest_port", guest_port, least=1)
    _check_port("local_port", local_port, least=0)
    host = _address("local_host", local_host)
    relay = _Relay(link, _address("guest_host", guest_host), guest_port)
    try:
        server = await asyncio.start_server(relay.serve, host, local_port)
    except OSError as error:
        raise PortUnavailable(f"{local_host}:{local_port} can't be listened on: {error.strerror}.") from error
    try:
        name = server.sockets[0].getsockname()
        with link.in_use():
            yield name[0], name[1]
    finally:
        server.close()
        await relay.close()


class _Relay:
    """Connects whoever comes to the same port of the VM."""

    def __init__(self, link: SshLink, guest_host: str, guest_port: int) -> None:
        self._link = link
        self._guest_host = guest_host
        self._guest_port = guest_port
        self._serving: set[asyncio.Task[Any]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        task = asyncio.create_task(self._serve(reader, writer), name=f"forward to {self._guest_port}")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await self._link.using(self._open)
            with contextlib.closing(there_writer.channel):
                await _both_ways(reader, writer, there_reader, there_writer)
            writer.close()
        except (OSError, asyncssh.Error, SshError) as error:
            # All that can be told to whoever has connected is that it failed: by a reset, not an end of data.
            _log.debug("forward to port %d: %s", self._guest_port, error)
        finally:
            if not writer.is_closing():
                _reset(writer)

    async def _open(
        self, connection: asyncssh.SSHClientConnection
    ) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        return await connection.open_connection(self._guest_host, self._guest_port, encoding=None)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there_reader: asyncssh.SSHReader[bytes],
    there_writer: asyncssh.SSHWriter[bytes],
) -> None:
    """Carry bytes until both directions have ended; each ends by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(reader, there_writer))
            group.create_task(_carry(there_reader, writer))
    except* (OSError, asyncssh.Error) as errors:
        raise ConnectionResetError(str(errors.exceptions[0])) from errors


async def _carry(
    source: asyncio.StreamReader | asyncssh.SSHReader[bytes],
    sink: asyncio.StreamWriter | asyncssh.SSHWriter[bytes],
) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


def _check_port(field: str, port: int, *, least: int) -> None:
    if not isinstance(port, int) or not least <= port <= 65535:
        raise InvalidInput(field, port, f"a number from {least} to 65535")


def _address(field: str, host: str) -> str:
    """Return the one address that is meant: a name could stand for several, and nothing for all there are."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError as error:
        raise InvalidInput(field, host, "an IP address") from error
