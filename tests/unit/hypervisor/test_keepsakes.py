"""What a sleeping VM's disks lie on comes back, whatever was removed meanwhile."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.vm import Disk
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.hypervisor.keepsakes import keep, put_back

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def description(tmp_path: Path) -> str:
    """Return that of a VM whose disk lies on a template's, which lies on an image's."""
    for name in ("image", "template", "job", "workspaces"):
        (tmp_path / name).mkdir()
    for name in ("image/root", "image/kernel", "image/initrd", "image/scratch", "workspaces/head"):
        (tmp_path / name).write_bytes(name.encode() * 200)
    raw = Disk(path=tmp_path / "image/scratch", format="raw", readonly=True)
    await QemuDisks().overlay(tmp_path / "template/scratch", raw, size_gb=1)
    below = Disk(path=tmp_path / "template/scratch", format="qcow2", readonly=True)
    await QemuDisks().overlay(tmp_path / "job/scratch", below)
    disks = "".join(
        f'<disk><source file="{tmp_path / name}"/>{rest}</disk>'
        for name, rest in [
            ("image/root", "<readonly/>"), ("job/scratch", ""), ("workspaces/head", "<serial>workspace</serial>"),
        ]
    )  # fmt: skip
    boot = f"<os><kernel>{tmp_path / 'image/kernel'}</kernel><initrd>{tmp_path / 'image/initrd'}</initrd></os>"
    return f"<domain>{boot}<devices>{disks}</devices></domain>"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_an_image_and_a_template_come_back_each_time(tmp_path, description):
    image, template, folder = tmp_path / "image", tmp_path / "template", tmp_path / "job/asleep.d"
    before = contents(image), contents(template)
    for _ in range(2):
        keep(description, folder)
        shutil.rmtree(image)
        shutil.rmtree(template)
        put_back(folder)
        assert (contents(image), contents(template)) == before
    # Kept once each, and neither what is the VM's own nor its workspace.
    assert len(list(folder.iterdir())) == len([*before[0], *before[1]]) + 1
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_was_removed_while_the_vm_was_awake_is_still_kept(tmp_path, description):
    folder = tmp_path / "job/asleep.d"
    keep(description, folder)
    shutil.rmtree(tmp_path / "template")
    keep(description, folder)
    put_back(folder)
    assert (tmp_path / "template/scratch").exists()


def test_what_is_there_is_left_alone(tmp_path, description):
    folder = tmp_path / "job/asleep.d"
    keep(description, folder)
    (tmp_path / "image/root").unlink()
    (tmp_path / "image/root").write_text("another")
    put_back(folder)
    assert (tmp_path / "image/root").read_text() == "another"


def test_nothing_kept_is_nothing_to_put_back(tmp_path):
    put_back(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
