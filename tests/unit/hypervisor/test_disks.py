"""Overlays, made by the real qemu-img."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from magpie_local.domain.vm import Disk
from magpie_local.errors import HostDiskFull, HostError, HypervisorUnavailable
from magpie_local.hypervisor.disks import QemuDisks

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")

#: Each means something to qemu-img, or to a shell, or to a careless path (F84).
HOSTILE = [
    "-o", "--help", "json:{}", 'json:{"driver":"nbd"}', "nbd:localhost", "file:x", "a,b=c", "a b", "a:b", "ü",
    "$(id)", "%s", "'\"", "fat:.", "x\ny",
]  # fmt: skip


@pytest.fixture
def base(tmp_path) -> Disk:
    path = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    return Disk(path=path, format="qcow2", readonly=True)


async def test_an_overlay_is_private_whole_and_names_its_base(tmp_path, base):
    path = tmp_path / "overlay"
    await QemuDisks().overlay(path, base)
    facts = _facts(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (facts["backing-filename"], facts["backing-filename-format"]) == (str(base.path), "qcow2")
    assert facts["virtual-size"] == 1024 * 1024
    assert _is_sound(path)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_is_a_plain_file(name, tmp_path, base):
    await QemuDisks().overlay(tmp_path / name, base)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "base.qcow2"])
    assert (tmp_path / name).read_bytes()[:4] == b"QFI\xfb"


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_base_with_a_hostile_name_is_found(name, tmp_path, base):
    hostile = Disk(path=base.path.rename(tmp_path / name), format="qcow2", readonly=True)
    await QemuDisks().overlay(tmp_path / "overlay", hostile)
    assert _is_sound(tmp_path / "overlay")


async def test_a_relative_path_is_taken_from_where_we_are(tmp_path, base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    await QemuDisks().overlay(Path("-o"), Disk(path=Path("base.qcow2"), format="qcow2"))
    assert _facts(tmp_path / "-o")["backing-filename"] == str(base.path)


async def test_a_raw_base_is_not_probed_for_another_format(tmp_path):
    raw = tmp_path / "raw"
    raw.write_bytes(b"QFI\xfb" + bytes(1024 * 1024 - 4))
    await QemuDisks().overlay(tmp_path / "overlay", Disk(path=raw, format="raw"))
    assert _facts(tmp_path / "overlay")["backing-filename-format"] == "raw"


async def test_a_missing_base_is_named(tmp_path):
    with pytest.raises(HostError, match="nothing-here"):
        await QemuDisks().overlay(tmp_path / "overlay", Disk(path=tmp_path / "nothing-here", format="qcow2"))


async def test_a_link_is_not_followed(tmp_path, base):
    (tmp_path / "overlay").symlink_to(tmp_path / "victim")
    with pytest.raises(HostError, match="overlay"):
        await QemuDisks().overlay(tmp_path / "overlay", base)
    assert not (tmp_path / "victim").exists()


async def test_without_the_tool_the_cure_is_named(tmp_path, base, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HypervisorUnavailable) as caught:
        await QemuDisks().overlay(tmp_path / "overlay", base)
    assert "qemu-utils" in caught.value.hint


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for hardly anything."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False, capture_output=True)
    if mount.returncode != 0:
        pytest.skip("a file system can't be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_is_said_to_be_full(small_disk, base):
    with pytest.raises(HostDiskFull):
        await QemuDisks().overlay(small_disk / "overlay", base)


def _is_sound(path: Path) -> bool:
    return subprocess.run(["qemu-img", "check", "-q", path], check=False).returncode == 0


def _facts(path: Path) -> dict[str, object]:
    facts: dict[str, object] = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", "-f", "qcow2", path], check=True, capture_output=True
        ).stdout
    )
    return facts
