"""Files for the guest: unpacked whole before the script, or refused with the reason."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.frames import blob_frames, message_frame
from magpie_local.errors import HostError
from magpie_local.guest.agent.background import Trouble
from magpie_local.guest.agent.uploads import unpack
from magpie_local.guest.channel import AgentGuest

from .test_services import disk, mount  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.guest.channel import AgentSession

    from .conftest import AgentProcess


def packed(files: dict[str, bytes | None], mode: int = 0o640) -> bytes:
    """Return a tar file; None makes a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode if data is not None else 0o750, len(data or b"")
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(data or b""))
    return stream.getvalue()


def upload(client, data: bytes, **changes: object) -> dict[str, object]:
    message = {"op": "upload", "size": len(data), "crc": zlib.crc32(data)} | changes
    client.socket.sendall(b"".join([message_frame(message), *blob_frames(data)]))
    answer: dict[str, object] = client.answer()
    return answer


def test_files_are_there_when_the_script_starts(agent, client):
    large = os.urandom(1_000_000)
    for _ in range(2):  # twice is done twice
        assert upload(client, packed({"a/b.bin": large, "empty": None, "ü": b""})) == {"op": "uploaded"}
    client.run(b"stat -c '%a %n' a/b.bin empty; ls")
    assert agent.exit().code == 0
    assert agent.output().decode().split("\n") == ["640 a/b.bin", "750 empty", "a", "empty", "ü", ""]
    assert (agent.home / "a/b.bin").read_bytes() == large
    assert sorted(os.listdir(agent.folder)) == ["control", "home", "log", "log.script"]


def test_absolute_names_of_the_stand_in_for_a_guest_stay_in_its_folder(agent, client, tmp_path):
    assert upload(client, packed({"/etc/magpie-test/x": b"x"})) == {"op": "uploaded"}
    assert (agent.home / "etc/magpie-test/x").read_bytes() == b"x"
    assert not os.path.exists("/etc/magpie-test")


def test_absolute_names_are_meant_where_they_may_be(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with (tmp_path / "tar").open("wb+") as file:
        file.write(packed({f"{tmp_path}/link": None, f"{tmp_path}/link/x": b"x", "y": b"y"}))
        file.flush()
        unpack(file.fileno(), str(tmp_path / "work"), anywhere=True)
    assert (tmp_path / "real/x").read_bytes() == b"x"
    assert (tmp_path / "work/y").read_bytes() == b"y"
    assert (tmp_path / "link").is_symlink()


def test_what_is_in_the_way_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (tmp_path / "tar").open("wb+") as file:
        file.write(packed({"file/x": b"x"}))
        file.flush()
        with pytest.raises(Trouble, match="file/x"):
            unpack(file.fileno(), str(tmp_path), anywhere=False)


def test_uploads_go_into_the_workspace(agent, client, disk):  # noqa: F811
    mount(client)
    assert upload(client, packed({"x": b"x"})) == {"op": "uploaded"}
    assert os.listdir(f"{disk}.files") == ["x"]


@pytest.mark.parametrize("change", [{"crc": 1}, {"size": 5}, {"size": -1}, {"size": None}, {"crc": "x"}])
def test_what_is_not_as_announced_is_refused_and_nothing_unpacked(agent, client, change):
    answer = upload(client, packed({"x": b"x"}), **change)
    assert (answer["op"], answer["to"]) == ("refused", "upload")
    client.run(b"ls")
    assert (agent.exit().code, agent.output()) == (0, b"")


def test_half_an_upload_is_forgotten_with_its_sender(agent, client):
    data = packed({"x": b"x"})
    client.socket.sendall(message_frame({"op": "upload", "size": len(data) + 1, "crc": 0}) + blob_frames(data)[0])
    client.close()
    second = agent.connect()
    second.run(b"ls")
    assert (agent.exit().code, agent.output()) == (0, b"")


def test_an_upload_comes_before_the_order(agent, client):
    client.run(b"sleep 300")
    assert "taken an order before" in str(upload(client, packed({"x": b"x"}))["message"])


async def test_the_channel_sends_blocks_as_they_are_read(agent):
    data = packed({f"{number}": os.urandom(300_000) for number in range(5)})
    session = await _connected(agent)
    await session.upload(_blocks(data), size=len(data), crc=zlib.crc32(data))
    assert sorted(os.listdir(agent.home)) == ["0", "1", "2", "3", "4"]
    with pytest.raises(HostError, match="damaged"):
        await session.upload(_blocks(data), size=len(data), crc=1)
    await session.close()


async def test_a_refused_upload_is_not_sent_to_its_end(agent):
    asked = []

    def endless() -> Iterator[bytes]:
        while True:
            asked.append(1)
            yield bytes(1 << 20)

    session = await _connected(agent)
    with pytest.raises(HostError, match="damaged"):
        await session.upload(endless(), size=5, crc=0)
    assert len(asked) < 50
    assert (await session.hello()).state == "idle"
    await session.close()


async def test_what_cant_be_read_is_told(agent):
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError(5, "Input/output error")

    session = await _connected(agent)
    with pytest.raises(HostError, match="can't be read: Input/output error"):
        await session.upload(broken(), size=5, crc=0)
    await session.close()


async def _connected(agent: AgentProcess) -> AgentSession:
    agent.connect().close()  # it listens
    return await AgentGuest().connect(agent.control)


def _blocks(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 100_000] for at in range(0, len(data), 100_000))
