"""How a connection comes about: who waits for it, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import SshUnavailable
from magpie_local.guest.ssh.link import PATIENCE, SshLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Sleeper:
    """Accepts like the port of a VM that is asleep, and passes nothing on before it is awake."""

    port: int = 0
    accepted: int = 0
    awake: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def asleep(server_port: int) -> AsyncIterator[Sleeper]:
    """Run a sleeper in front of a server."""
    sleeper = Sleeper()
    serving: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        sleeper.accepted += 1
        await sleeper.awake.wait()
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sleeper.port = server.sockets[0].getsockname()[1]
    yield sleeper
    server.close()
    await asyncio.gather(*serving)
    await asyncio.sleep(0)  # what they closed is closed by the loop


def test_a_vm_may_take_half_a_minute_to_wake():
    assert PATIENCE >= 30


async def test_a_port_that_accepts_and_says_nothing_is_waited_for_with_one_connection(sshd, access):
    async with asleep(sshd.port) as sleeper:
        link = SshLink(replace(access.target, port=sleeper.port))
        waiting = [asyncio.create_task(link.connection()) for _ in range(10)]
        while sleeper.accepted == 0:
            await asyncio.sleep(0)
        sleeper.awake.set()

        connections = await asyncio.gather(*waiting)

        assert len(set(map(id, connections))) == 1
        assert sleeper.accepted == 1
        await link.close()


async def test_all_who_wait_are_told_at_once_that_nobody_answers(access):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = SshLink(replace(access.target, port=silent.getsockname()[1]), patience=0.5)
        began = time.monotonic()

        asked = [link.sftp() if number % 2 else link.connection() for number in range(20)]
        ended = await asyncio.gather(*asked, return_exceptions=True)

        assert [type(one) for one in ended] == [SshUnavailable] * 20
        assert time.monotonic() - began < 5  # and not 20 times as long


async def test_whoever_stops_waiting_leaves_the_attempt_to_the_others(sshd, access):
    async with asleep(sshd.port) as sleeper:
        link = SshLink(replace(access.target, port=sleeper.port))
        first, second = (asyncio.create_task(link.connection()) for _ in range(2))
        while sleeper.accepted == 0:
            await asyncio.sleep(0)
        first.cancel()
        sleeper.awake.set()

        assert not (await second).is_closed()
        assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        await link.close()


async def test_closing_ends_an_attempt_and_tells_those_who_wait(access):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = SshLink(replace(access.target, port=silent.getsockname()[1]))
        waiting = asyncio.create_task(link.connection())
        await asyncio.sleep(0)  # it has begun

        await link.close()

        with pytest.raises(SshUnavailable, match="closed here"):
            await waiting


async def test_what_a_broken_connection_could_not_do_is_done_on_a_new_one(access):
    link = SshLink(access.target)
    broken = await link.connection()
    seen = []

    async def fails_once(connection: object) -> str:
        seen.append(connection)
        if connection is broken:
            broken.abort()
            await broken.wait_closed()
            raise ConnectionResetError
        return "done"

    assert await link.using(fails_once) == "done"
    assert len(seen) == 2
    await link.close()


async def test_what_fails_on_a_good_connection_is_not_done_again(access):
    link = SshLink(access.target)
    seen = []

    async def fails(connection: object) -> None:
        seen.append(connection)
        raise FileNotFoundError("no")

    with pytest.raises(FileNotFoundError):
        await link.using(fails)
    assert len(seen) == 1
    await link.close()
