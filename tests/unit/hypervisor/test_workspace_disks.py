"""The disks of workspaces, made by the real tools and judged by them."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.sizes import GIB
from magpie_local.domain.vm import Disk
from magpie_local.errors import HostDiskFull, HostError, HypervisorUnavailable, InvalidInput, WorkspaceDamaged
from magpie_local.hypervisor import disks as module
from magpie_local.hypervisor.disks import QemuDisks

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ["qemu-img", "qemu-io", "mkfs.ext4", "e2fsck", "resize2fs"]
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool, path=SBIN) is None for tool in TOOLS), reason="qemu-img and e2fsprogs are not installed"
)
#: Each means something to qemu-img, or to a shell, or to a careless path (F84).
HOSTILE = ["-o", "--help", "json:{}", "nbd:localhost", "file:x", "a,b=c", "a b", "ü", "$(id)", "%s", "x\ny", "-"]
DISKS = QemuDisks()
USES_TOOLS = pytest.mark.usefixtures("tmp_path")


@pytest.fixture
async def blank(tmp_path: Path) -> Path:
    path = tmp_path / "blank.qcow2"
    await DISKS.blank(path, 1)
    return path


@pytest.fixture
async def written(tmp_path: Path, blank: Path) -> Path:
    """An overlay on the blank one, with 0x07 in the megabyte at 600 MiB."""
    path = tmp_path / "written.qcow2"
    await DISKS.overlay(path, qcow2(blank), beside=True)
    io(path, "write -P 7 600M 1M")
    return path


def qcow2(path: Path) -> Disk:
    return Disk(path=path, format="qcow2", readonly=True)


def tool(*command: str | Path) -> str:
    done = subprocess.run(
        command, env={**os.environ, "PATH": SBIN}, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout.decode()


def io(path: Path, command: str) -> None:
    """Have a disk written to or read as a guest would; a pattern that is not there fails."""
    said = tool("qemu-io", "-f", "qcow2", "-c", command, path)
    assert "failed" not in said, said


def as_raw(path: Path, to: Path) -> Path:
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, to)
    return to


def patch(path: Path, at: int, layout: str, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(layout, value))


async def test_a_blank_disk_is_private_small_and_has_a_sound_ext4(tmp_path, blank):
    raw = as_raw(blank, tmp_path / "raw")

    assert blank.stat().st_mode & 0o777 == 0o600
    assert blank.stat().st_blocks * 512 < 8 * 1024**2
    assert raw.stat().st_size == GIB
    tool("e2fsck", "-fn", raw)


async def test_nothing_but_the_disk_is_left_of_its_making(tmp_path, blank):
    assert [path.name for path in tmp_path.iterdir()] == [blank.name]


async def test_a_disk_that_grew_has_room_into_which_its_file_system_grows(tmp_path, blank):
    await DISKS.resize(blank, 3)
    raw = as_raw(blank, tmp_path / "raw")

    tool("e2fsck", "-fp", raw)
    tool("resize2fs", raw)

    assert (await DISKS.inspect([blank])).size_gb == 3
    tool("e2fsck", "-fn", raw)


async def test_a_disk_of_that_size_stays_and_none_shrinks(blank):
    await DISKS.resize(blank, 1)
    await DISKS.resize(blank, 2)

    with pytest.raises(HostError, match="resize"):
        await DISKS.resize(blank, 1)
    assert (await DISKS.inspect([blank])).size_gb == 2


async def test_an_overlay_keeps_its_base_as_it_was_and_may_be_larger(tmp_path, blank):
    before = blank.read_bytes()
    path = tmp_path / "over.qcow2"

    await DISKS.overlay(path, qcow2(blank), size_gb=2, beside=True)
    io(path, "write -P 9 1500M 1M")

    assert blank.read_bytes() == before
    assert (await DISKS.inspect([path, blank])).size_gb == 2


async def test_disks_may_move_together_with_their_folder(tmp_path, written, blank):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (written, blank):
        path.rename(moved / path.name)

    await DISKS.inspect([moved / written.name, moved / blank.name])
    io(moved / written.name, "read -P 7 600M 1M")


async def test_only_the_top_that_was_written_to_counts_as_touched(tmp_path, written, blank):
    fresh = tmp_path / "fresh.qcow2"
    await DISKS.overlay(fresh, qcow2(written), beside=True)

    assert (await DISKS.inspect([fresh, written, blank])).untouched
    assert not (await DISKS.inspect([written, blank])).untouched


@pytest.mark.parametrize("compress", [False, True])
async def test_an_export_stands_for_itself_and_comes_back(tmp_path, written, blank, compress):
    target, back = tmp_path / "export", tmp_path / "back.qcow2"

    await DISKS.export(written, target, compress=compress)
    blank.unlink()
    size_gb = await DISKS.import_(target, back)

    assert (size_gb, target.stat().st_mode & 0o777, back.stat().st_mode & 0o777) == (1, 0o600, 0o600)
    assert not (await DISKS.inspect([back])).untouched
    io(back, "read -P 7 600M 1M")
    tool("e2fsck", "-fn", as_raw(back, tmp_path / "raw"))


async def test_an_export_overwrites_nothing_and_leaves_nothing(tmp_path, blank):
    (tmp_path / "precious").write_text("mine")

    with pytest.raises(InvalidInput, match="nothing is overwritten"):
        await DISKS.export(blank, tmp_path / "precious")

    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [blank.name, "precious"]


async def test_an_export_that_is_cancelled_leaves_nothing(tmp_path, blank):
    export = asyncio.create_task(DISKS.export(blank, tmp_path / "export"))
    while not list(tmp_path.glob(".magpie-*")):
        await asyncio.sleep(0)
    export.cancel()

    with pytest.raises(asyncio.CancelledError):
        await export
    assert [path.name for path in tmp_path.iterdir()] == [blank.name]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_is_a_plain_file(tmp_path, blank, name):
    await DISKS.export(blank, tmp_path / name)
    await DISKS.import_(tmp_path / name, tmp_path / "back.qcow2")

    assert sorted(os.listdir(tmp_path)) == sorted([name, blank.name, "back.qcow2"])


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("a b", "ü")])
async def test_a_base_that_could_mean_something_else_is_never_named_alone(tmp_path, name):
    with pytest.raises(HostError, match="can't be the name of a disk"):
        await DISKS.overlay(tmp_path / "over", qcow2(tmp_path / name), beside=True)


async def test_leaks_are_mended_and_corruption_is_told(tmp_path, written):
    leaking = tmp_path / "leaking.qcow2"
    shutil.copy(written, leaking)
    # A cluster that is counted and that nothing refers to, as a kill leaves it between two writes.
    end = -(-leaking.stat().st_size // 65536)
    os.truncate(leaking, (end + 1) * 65536)
    patch(leaking, block_of(leaking) + 2 * end, ">H", 1)
    corrupt = tmp_path / "corrupt.qcow2"
    shutil.copy(written, corrupt)
    patch(corrupt, block_of(corrupt) + 2 * 4, ">H", 0)

    assert await DISKS.check(leaking) == 1
    assert await DISKS.check(leaking) == 0
    with pytest.raises(WorkspaceDamaged, match="corrupt"):
        await DISKS.check(corrupt)


def block_of(path: Path) -> int:
    """Return where the first block of reference counts is."""
    data = path.read_bytes()
    (table,) = struct.unpack_from(">Q", data, 48)
    (block,) = struct.unpack_from(">Q", data, table)
    return int(block)


async def test_without_the_tool_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MKFS", ("mkfs.that-nobody-has",))

    with pytest.raises(HypervisorUnavailable, match=r"mkfs\.that-nobody-has"):
        await DISKS.blank(tmp_path / "blank", 1)


class TestStrangers:
    """F83: files that lead elsewhere, or nowhere, are refused before any tool sees them."""

    @pytest.fixture(autouse=True)
    def _no_tool(self, request, monkeypatch):
        if request.node.get_closest_marker("usefixtures") is None:
            monkeypatch.setattr(module, "run", None)

    @pytest.fixture
    def crafted(self, tmp_path: Path) -> Path:
        path = tmp_path / "crafted.qcow2"
        tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1G")
        return path

    async def refused(self, path: Path, why: str) -> None:
        target = path.with_name("target.qcow2")
        with pytest.raises(InvalidInput, match=why) as caught:
            await DISKS.import_(path, target)
        assert (caught.value.field, caught.value.value) == ("path", str(path))
        assert not target.exists()

    async def test_a_backing_file_is_not_followed(self, tmp_path):
        path = tmp_path / "thief.qcow2"
        tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", path, "1G")
        await self.refused(path, "lie in other files")

    async def test_an_external_data_file_is_not_followed(self, tmp_path):
        path, data = tmp_path / "thief.qcow2", tmp_path / "data"
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={data}", path, "1M")
        await self.refused(path, "lie in other files")

    @pytest.mark.parametrize(
        ("at", "layout", "value", "why"),
        [
            (24, ">Q", 2 << 60, "virtual size"),
            (24, ">Q", 0, "virtual size"),
            (32, ">I", 1, "encrypted"),
            (36, ">I", 0xFFFF_FFFF, "first-level table"),
            (36, ">I", 0, "first-level table"),
            (40, ">Q", 1 << 62, "cut off"),
            (40, ">Q", 12345, "make no sense"),
            (48, ">Q", 1 << 40, "cut off"),
            (56, ">I", 0xFFFF_FFFF, "reference count table"),
            (4, ">I", 7, "version 7"),
            (20, ">I", 63, "clusters of"),
            (72, ">Q", 1 << 40, "unknown features"),
            (72, ">Q", 2, "corrupt"),
            (8, ">Q", 1 << 50, "below it"),
            (100, ">I", 5, "header"),
        ],
    )
    async def test_a_header_that_lies_is_refused(self, crafted, at, layout, value, why):
        patch(crafted, at, layout, value)
        await self.refused(crafted, why)

    @pytest.mark.parametrize("content", [b"", b"QFI\xfb", b"KDMV" + bytes(5000), bytes(1024**2)], ids=range(4))
    async def test_another_format_is_refused(self, tmp_path, content):
        path = tmp_path / "other"
        path.write_bytes(content)
        await self.refused(path, "is empty|is cut off|is no qcow2")

    @pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device"])
    async def test_what_is_no_file_is_refused(self, tmp_path, kind):
        path = tmp_path / "odd"
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        await self.refused(path, "can't be read|no regular file")

    @USES_TOOLS
    async def test_a_disk_without_ext4_is_refused(self, tmp_path, crafted):
        with pytest.raises(InvalidInput, match="no ext4"):
            await DISKS.import_(crafted, tmp_path / "target.qcow2")

    @USES_TOOLS
    async def test_tables_that_lead_astray_are_refused(self, tmp_path, blank):
        (l1,) = struct.unpack_from(">Q", blank.read_bytes(), 40)
        patch(blank, l1, ">Q", (1 << 63) | (1 << 45))

        with pytest.raises(InvalidInput, match=r"can't be copied|no ext4"):
            await DISKS.import_(blank, tmp_path / "target.qcow2")

    @USES_TOOLS
    async def test_a_file_that_unpacks_to_more_than_there_is_room_for_is_stopped(self, tmp_path, written, monkeypatch):
        await DISKS.export(written, tmp_path / "export")
        usage = shutil.disk_usage(tmp_path)._replace(free=GIB + 1024**2)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

        with pytest.raises(HostDiskFull, match="no room"):
            await DISKS.import_(tmp_path / "export", tmp_path / "target.qcow2")
