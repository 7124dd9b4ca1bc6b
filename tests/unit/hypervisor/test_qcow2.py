"""F76: whatever happens to a disk's file is told before a VM gets it, or does no harm."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.vm import Disk
from magpie_local.errors import HypervisorUnavailable, WorkspaceDamaged
from magpie_local.hypervisor.disks import QemuDisks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-utils is not installed")
DISKS = QemuDisks()
MUTATIONS = 200


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk that is an overlay on another one, both written to; its folder has no third file."""
    folder = tmp_path_factory.mktemp("whole")
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "1G")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 0 2M", "-c", "write -P 4 700M 1M", base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base.name, top)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 1M 2M", "-c", "write -P 6 900M 1M", top)
    return top


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=30)


@pytest.fixture
def disk(original: Path, tmp_path: Path) -> Path:
    for path in original.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / original.name


async def damage(path: Path) -> str:
    """Return what is wrong with a disk."""
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(WorkspaceDamaged) as caught:
        await DISKS.inspect([path, path.with_name("base.qcow2")])
    assert not path.is_file() or path.read_bytes() == before
    assert "Roll back" in caught.value.hint
    return caught.value.message


async def test_a_whole_disk_is_whole(disk):
    facts = await DISKS.inspect([disk, disk.with_name("base.qcow2")])

    assert (facts.size_gb, facts.untouched) == (1, False)


async def test_a_missing_file_is_named_and_not_made(disk):
    disk.unlink()

    assert await damage(disk) == f"{disk} is missing."
    assert not disk.exists()


async def test_a_base_that_has_gone_is_named(disk):
    base = disk.with_name("base.qcow2")
    base.unlink()

    assert await damage(disk) == f"{base} is missing."


@pytest.mark.parametrize("path", ["top.qcow2", "base.qcow2"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"", "is empty"),
        (lambda data: data[:50], "is cut off in its header"),
        (lambda data: data[:65536], "is cut off in its tables"),
        (lambda data: data[: len(data) // 2], "is cut off"),
        (lambda data: data[:-65536], "is cut off"),
        (lambda data: b"\0" * len(data), "is no qcow2 file"),
        (lambda data: b"<html>" + data, "is no qcow2 file"),
        (lambda data: data[:72] + struct.pack(">Q", 2) + data[80:], "marked as corrupt"),
        (lambda data: data[:72] + struct.pack(">Q", 4) + data[80:], "of another kind"),
        (lambda data: data[:48] + struct.pack(">Q", 1 << 16) + data[56:65536] + bytes(65536) + data[131072:],
         "no reference counts"),
    ],
)  # fmt: skip
async def test_what_is_cut_off_or_foreign_is_named(
    disk: Path, path: str, change: Callable[[bytes], bytes], said: str
) -> None:
    broken = disk.with_name(path)
    broken.write_bytes(change(broken.read_bytes()))

    assert said in (message := await damage(disk))
    assert message.startswith(str(broken))


async def test_a_link_in_the_place_of_a_disk_is_not_followed(disk):
    elsewhere = disk.rename(disk.with_name("elsewhere"))
    disk.symlink_to(elsewhere)

    with pytest.raises(Exception, match="Too many levels of symbolic links"):
        await DISKS.inspect([disk, disk.with_name("base.qcow2")])


async def test_a_disk_that_lies_on_another_file_than_its_row_says_is_refused(disk, tmp_path):
    thief = tmp_path / "thief.qcow2"
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "/etc/shadow", thief, "1G")

    with pytest.raises(WorkspaceDamaged, match=r"lies on /etc/shadow, and should on base\.qcow2"):
        await DISKS.inspect([thief, disk.with_name("base.qcow2")])
    with pytest.raises(WorkspaceDamaged, match="should on nothing"):
        await DISKS.inspect([disk])


async def test_a_base_read_as_another_format_is_refused(disk, tmp_path):
    thief = tmp_path / "thief.qcow2"
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "base.qcow2", thief, "1G")

    with pytest.raises(WorkspaceDamaged, match="lies on"):
        await DISKS.inspect([thief, disk.with_name("base.qcow2")])


async def test_two_hundred_mutations_are_told_or_do_no_harm(original, disk):
    """Bits of the header, of the tables and of the counts, and lengths: where all is said to be whole, it is."""
    dice = random.Random(76)
    data = original.read_bytes()
    (l1,), (counts,) = struct.unpack_from(">Q", data, 40), struct.unpack_from(">Q", data, 48)
    (l2,) = struct.unpack_from(">Q", data, l1 + 8)
    l2 &= (1 << 56) - 512
    (block,) = struct.unpack_from(">Q", data, counts)
    # The last byte of an entry says "reads as zeros": to change it is to change the contents, which nothing could tell.
    entries = [at for at in range(l2 + 8 * 6200, l2 + 8 * 6230) if at % 8 != 7]
    places = [range(112), range(l1, l1 + 16), range(counts, counts + 64), range(block, block + 64), entries]
    told = 0
    for number in range(MUTATIONS):
        if number % 10 == 0:
            at = dice.randrange(len(data))
            disk.write_bytes(data[:at])
        else:
            at = dice.choice(dice.choice(places))
            disk.write_bytes(data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :])
        refused = await is_told(disk)
        told += refused
        assert refused or is_same(original, disk), (number, at)
    assert told > MUTATIONS // 2


async def is_told(disk: Path) -> bool:
    """Say whether a disk is refused by what is done before a VM gets it (or by the size that its row tells)."""
    try:
        facts = await DISKS.inspect([disk, disk.with_name("base.qcow2")])
        await DISKS.check(disk)
    except WorkspaceDamaged:
        return True
    return facts.size_gb != 1


def is_same(one: Path, other: Path) -> bool:
    done = subprocess.run(
        ["qemu-img", "compare", "-q", "-s", "-f", "qcow2", "-F", "qcow2", one, other], check=False, timeout=30
    )
    return done.returncode == 0


async def test_a_look_starts_no_program(tmp_path, monkeypatch):
    """A stateful start may cost the host 50 ms: reading the tables of a disk must be nothing of that."""
    top = tmp_path / "top.qcow2"
    await DISKS.blank(top, 10)
    chain = [top]
    for number in range(10):
        path = tmp_path / f"{number}.qcow2"
        await DISKS.overlay(path, Disk(path=chain[0], format="qcow2"), beside=True)
        chain.insert(0, path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await DISKS.inspect(chain)).size_gb == 10
    with pytest.raises(HypervisorUnavailable, match="qemu-img"):
        await DISKS.check(top)
