"""Doorbells: real processes, which pass connections on to whatever has the port after them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id, new_vm_id
from magpie_local.hypervisor.doorbell.bells import TcpDoorbells

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from magpie_local.domain.ids import JobId, VmId

RINGS = "import os, sys; open(sys.argv[1], 'a').write(os.environ['WHO'] + '\\n')"


class Post:
    """A doorbell's place, and what it has rung."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rung = folder / "rung"
        self.vm_id: VmId = new_vm_id()
        self.job_id: JobId = new_job_id()
        self.bells = TcpDoorbells(self.path, self.command, {"WHO": "me"}, folder / "log")

    def path(self, vm_id: VmId) -> Path:
        return self.folder / "d" / vm_id[:13]

    def command(self, job_id: JobId) -> list[str]:
        assert job_id == self.job_id
        return [sys.executable, "-c", RINGS, str(self.rung)]

    async def hang(self, port: int = 0) -> int:
        return await self.bells.hang(self.vm_id, self.job_id, port)

    def processes(self) -> list[int]:
        word = str(self.path(self.vm_id)).encode()
        return [int(one.parent.name) for one in Path("/proc").glob("[0-9]*/cmdline") if word in _read(one)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    with tempfile.TemporaryDirectory(prefix="mag") as name:
        made = Post(Path(name))
        yield made
        await made.bells.remove(made.vm_id)
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)


async def hang_up(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(b"vm: " + data)
    writer.close()


async def test_whoever_comes_rings_once_and_is_passed_on(post):
    port = await post.hang()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"SSH-2.0-me\r\n")
    await until(lambda: post.rung.exists() and post.rung.read_text())
    second, other = await asyncio.open_connection("127.0.0.1", port)
    other.write(b"hello")
    await post.bells.make_way(post.vm_id)
    assert not post.path(post.vm_id).exists()
    vm = await asyncio.start_server(echo, "127.0.0.1", port)
    async with asyncio.timeout(20):
        assert await reader.read(100) == b"vm: SSH-2.0-me\r\n"
        assert await second.read(100) == b"vm: hello"
        writer.write(b"more")
        assert await reader.read(100) == b"vm: more"
        writer.write_eof()
        assert await reader.read() == b""
    assert post.rung.read_text() == "me\n"
    assert post.processes()
    await hang_up(writer, other)
    await until(lambda: not post.processes())
    vm.close()
    await vm.wait_closed()


async def test_a_scanner_that_says_nothing_wakes_nobody(post):
    port = await post.hang()
    _, silent = await asyncio.open_connection("127.0.0.1", port)
    _, gone = await asyncio.open_connection("127.0.0.1", port)
    await hang_up(gone)
    _, speaks = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.5)  # in which it could have rung
    assert not post.rung.exists()
    speaks.write(b"SSH")
    await until(lambda: post.rung.exists())
    await hang_up(silent, speaks)


async def test_hanging_one_twice_is_as_good_as_once(post):
    port = await post.hang()
    (pid,) = post.processes()
    assert await post.hang(port) == port
    assert post.processes() == [pid]


async def test_where_the_port_is_somebody_elses_it_takes_another(post):
    with socket.create_server(("127.0.0.1", 0)) as thief:
        taken = thief.getsockname()[1]
        assert await post.hang(taken) != taken


async def test_removed_it_ends_and_sends_away_who_waits(post):
    port = await post.hang()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"SSH")
    await until(lambda: post.rung.exists())
    await post.bells.remove(post.vm_id)
    await until(lambda: not post.processes())
    with contextlib.suppress(ConnectionError):  # how it ends depends on what was still unread
        assert await reader.read(1) == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await hang_up(writer)
    await post.bells.remove(post.vm_id)


async def test_it_listens_on_the_loopback_only_and_keeps_no_secret(post, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cr3t")
    bells = TcpDoorbells(post.path, post.command, {"WHO": "me"}, post.folder / "log")
    port = await bells.hang(post.vm_id, post.job_id, 0)
    (pid,) = post.processes()
    assert b"s3cr3t" not in Path(f"/proc/{pid}/environ").read_bytes()
    listeners = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{port:04X} 00000000:0000 0A" in listeners
    assert f"00000000:{port:04X} 00000000:0000 0A" not in listeners
    assert (post.path(post.vm_id).stat().st_mode & 0o777, post.path(post.vm_id).parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )


async def test_it_ends_when_its_folder_has_gone(post):
    await post.hang()
    post.path(post.vm_id).unlink()
    await until(lambda: not post.processes())


async def test_a_new_one_takes_the_place_of_one_that_was_killed(post):
    port = await post.hang()
    for pid in post.processes():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not post.processes())
    assert await post.hang(port) == port
    assert len(post.processes()) == 1
