"""Ports forwarded through a real OpenSSH server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import InvalidInput, PortUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def echo(host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A service that sends back what it gets, and ends when its peer does."""

    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.wait({task for task in serving if task is not None} or {asyncio.create_task(asyncio.sleep(0))})
    await asyncio.sleep(0)  # what they closed is closed by the loop


async def ask(address: tuple[str, int], data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read(-1)
    finally:
        writer.close()


async def test_a_service_there_is_reached_here(shell):
    async with echo() as there, shell.forward(there) as (host, port):
        assert host == "127.0.0.1"
        assert await ask((host, port), b"hello") == b"hello"


async def test_the_local_port_can_be_chosen(shell, unused_tcp_port):
    async with echo() as there, shell.forward(there, local_port=unused_tcp_port) as address:
        assert address == ("127.0.0.1", unused_tcp_port)
        assert await ask(address, b"hello") == b"hello"


async def test_the_service_may_listen_on_another_address_than_loopback(shell):
    async with echo("127.0.0.3") as there, shell.forward(there, guest_host="127.0.0.3") as address:
        assert await ask(address, b"hello") == b"hello"
    with pytest.raises(InvalidInput, match="guest_host"):
        async with shell.forward(80, guest_host="elsewhere"):
            pass


async def test_many_connections_carry_many_bytes_at_once(shell):
    data = [os.urandom(300_000) for _ in range(20)]

    async with echo() as there, shell.forward(there) as address:
        assert await asyncio.gather(*(ask(address, one) for one in data)) == data


async def test_a_service_that_is_not_there_resets_the_connection(shell, unused_tcp_port):
    async with shell.forward(unused_tcp_port) as address:
        with pytest.raises(ConnectionResetError):
            await ask(address, b"")


async def test_new_connections_work_after_the_ssh_connection_broke(sshd, shell):
    async with echo() as there, shell.forward(there) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        sshd.cut()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

        assert await ask(address, b"hello") == b"hello"


async def test_a_forward_ends_with_its_owner(shell):
    async with echo() as there:
        async with shell.forward(there) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x")
            assert await reader.read(1) == b"x"

        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_a_port_that_is_taken_is_told(shell):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable, match=str(port)):
            async with shell.forward(80, local_port=port):
                pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_it_listens_on_loopback_and_nowhere_else(shell, host):
    async with shell.forward(80, local_host=host) as (address, port):
        listening = [line for line in listeners() if line.endswith(f":{port:04X}")]

    assert address in ("127.0.0.1", "::1")
    assert listening == [f"{'0100007F' if '.' in address else '0' * 24 + '01000000'}:{port:04X}"]


async def test_beyond_loopback_it_listens_only_when_told_to(shell):
    async with shell.forward(80, local_host="0.0.0.0") as (address, port):
        assert f"00000000:{port:04X}" in listeners()
    assert address == "0.0.0.0"


def listeners() -> list[str]:
    """Return the addresses that are listened on, as the kernel writes them."""
    lines = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(path) as file:
            lines += [line.split() for line in file.readlines()[1:]]
    return [fields[1] for fields in lines if fields[3] == "0A"]


@pytest.mark.parametrize(
    "bad",
    [
        {"guest_port": 0}, {"guest_port": 65536}, {"guest_port": "80"}, {"local_port": -1}, {"local_port": 65536},
        {"local_host": ""}, {"local_host": None}, {"local_host": "example.org"}, {"local_host": "*"},
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_port_or_address_is_refused(shell, bad):
    values = {"guest_port": 80} | bad
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        async with shell.forward(values.pop("guest_port"), **values):
            pass
