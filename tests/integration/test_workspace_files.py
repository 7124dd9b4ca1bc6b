"""Workspaces on real disks: what a guest would have written is there after every change, and the file system is whole.

No VM: qemu-io writes and reads as one would, and the host's e2fsck judges a raw copy.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local import config
from magpie_local.engine.workspaces import Workspaces
from magpie_local.errors import WorkspaceDamaged
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.wiring import open_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.engine.context import Ports

SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool, path=SBIN) is None for tool in ("qemu-io", "mkfs.ext4", "e2fsck")),
    reason="qemu-utils and e2fsprogs are not installed",
)


@pytest.fixture
async def ports() -> AsyncIterator[Ports]:
    with tempfile.TemporaryDirectory(prefix="mag", dir="/var/tmp") as folder:
        settings = config.load({"MAGPIE_CONFIG": ""}, home=Path(folder) / "state", hypervisor="fake")
        async with open_engine(settings) as engine:
            await engine.ports.leader.lead()
            yield replace(engine.ports, disks=QemuDisks())


def tool(*command: str | Path) -> str:
    done = subprocess.run(
        command, env={**os.environ, "PATH": SBIN}, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout


async def path_of(ports: Ports, workspace_id: str) -> Path:
    found = await ports.workspaces.get(workspace_id)
    assert found is not None
    assert found.head is not None
    return ports.layout.disk(found.head)


async def write(ports: Ports, workspace_id: str, byte: int, where: str = "600M") -> None:
    await asyncio.to_thread(io, await path_of(ports, workspace_id), f"write -P {byte} {where} 1M")


async def holds(ports: Ports, workspace_id: str, byte: int, where: str = "600M") -> bool:
    return await asyncio.to_thread(io, await path_of(ports, workspace_id), f"read -P {byte} {where} 1M")


def io(path: Path, command: str) -> bool:
    return "failed" not in tool("qemu-io", "-f", "qcow2", "-c", command, path)


async def is_sound(ports: Ports, workspace_id: str) -> None:
    """Assert that neither qemu-img nor e2fsck finds anything wrong."""
    path = await path_of(ports, workspace_id)
    tool("qemu-img", "check", "-q", "-f", "qcow2", path)
    raw = ports.layout.root / "raw"
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    # The pattern lies in blocks that the empty file system does not use.
    tool("e2fsck", "-fn", raw)
    raw.unlink()


async def test_contents_survive_every_change(ports: Ports, tmp_path: Path) -> None:
    do = Workspaces(ports)
    await do.create("w", 1)
    await write(ports, "w", 1)
    await do.snapshot("w", "one")
    await write(ports, "w", 2)
    await do.clone("w", "copy")
    await do.create("derived", 2, "w")
    await do.export("w", tmp_path / "file", compress=True)
    await write(ports, "w", 3)
    await do.resize("w", 2)
    await write(ports, "w", 9, "1500M")
    await write(ports, "copy", 4)
    await do.import_(tmp_path / "file", "back")

    for name, byte in (("w", 3), ("copy", 4), ("derived", 2), ("back", 2)):
        assert await holds(ports, name, byte), name
        await is_sound(ports, name)
    await do.rollback("w", "one")
    assert await holds(ports, "w", 1)
    await do.delete("w")
    for name, byte in (("copy", 4), ("derived", 2)):
        assert await holds(ports, name, byte), name
    assert await do.sweep() == []


async def test_a_state_directory_may_be_moved(ports: Ports) -> None:
    do = Workspaces(ports)
    await do.create("w", 1)
    await write(ports, "w", 1)
    await do.snapshot("w", "one")
    moved = ports.layout.root.parent / "moved"
    shutil.copytree(ports.layout.workspaces, moved / "workspaces")
    shutil.rmtree(ports.layout.workspaces)

    elsewhere = replace(ports, layout=replace(ports.layout, root=moved))
    await Workspaces(elsewhere).prepare("w")

    assert await holds(elsewhere, "w", 1)


async def test_a_kill_while_a_guest_writes_is_checked_mended_and_loses_nothing(ports: Ports) -> None:
    do = Workspaces(ports)
    await do.create("w", 1)
    await write(ports, "w", 1)
    for _ in range(5):
        path = await path_of(ports, "w")
        writes = [part for at in range(0, 400, 2) for part in ("-c", f"write -P 7 {200 + at}k 64k")]
        process = await asyncio.create_subprocess_exec(
            "qemu-io", "-f", "qcow2", *writes, path, stdout=subprocess.PIPE
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(20):
            await process.stdout.readline()
        process.kill()
        await process.communicate()
        await ports.workspace_use.released("w", clean=False)

        assert (await do.prepare("w")).check
        tool("qemu-img", "check", "-q", "-f", "qcow2", path)
        assert await holds(ports, "w", 1)


async def test_a_truncated_disk_is_told_before_a_vm_gets_it(ports: Ports) -> None:
    do = Workspaces(ports)
    await do.create("w", 1)
    await write(ports, "w", 1)
    path = await path_of(ports, "w")
    data = path.read_bytes()
    path.write_bytes(data[: -(1024**2)])

    with pytest.raises(WorkspaceDamaged, match=path.name):
        await do.prepare("w")
    assert path.read_bytes() == data[: -(1024**2)]
