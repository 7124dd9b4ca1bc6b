"""Forks of our own guest by QEMU with nothing between: the floor for a start without a pool.

The template is settled and exercised as the pool's are, then frozen with its memory in a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.references import talk
from benchmarks.references.image import base_image
from benchmarks.references.machine import GuestFiles, emulator, guest_files, overlay, qemu_command
from benchmarks.references.processes import require, run, running
from benchmarks.references.qmp import monitor
from magpie_local.domain.ids import new_vm_id
from magpie_local.guest.channel import AgentGuest

if TYPE_CHECKING:
    from magpie_local.domain.vm import BootImage

_RAM, _DEVICES = "ram", "devices"


class RawFork:
    """Forks a template with plain QEMU.

    Args:
        images: the folder of built images.
        cache: keeps the template.
    """

    name = "reference: raw QEMU forks our guest"

    def __init__(self, images: Path, cache: Path) -> None:
        self._images = images
        self._cache = cache
        self._image: BootImage | None = None
        self._template = cache

    def prepare(self) -> None:
        """Make the template, about ten seconds, unless there is one of this image, this QEMU and this command."""
        require("qemu-img", "setpriv")
        self._image = base_image(self._images)
        self._template = self._cache / f"template-{_key(self._image)}"
        if self._template.exists():
            return
        print("references: making a template of our guest with plain QEMU")
        self._cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="template.", dir=self._cache) as name:
            made = Path(name) / "made"
            made.mkdir(mode=0o700)
            asyncio.run(_make(self._image, made))
            for old in self._cache.glob("template-*"):
                shutil.rmtree(old)
            made.rename(self._template)  # whole, or not at all

    def start_seconds(self) -> float:
        """Return the seconds from the start of QEMU to the first output line of a script."""
        assert self._image is not None, "call prepare() first"
        with guest_files(self._template / "scratch.qcow2") as files:
            return asyncio.run(_fork(self._image, files, self._template))


async def _make(image: BootImage, folder: Path) -> None:
    vm_id = new_vm_id()
    identity = await AgentGuest().new_identity(vm_id)
    with guest_files(image.scratch) as files:
        # The disk belongs to the template: it is frozen at the same instant as the memory.
        disk = folder / "scratch.qcow2"
        overlay(disk, image.scratch)
        files.scratch.unlink()
        files.scratch.symlink_to(disk)
        with running(*qemu_command(image, files, vm_id, ram=folder / _RAM), cwd=files.folder) as process:
            async with talk.agent(process, files.control) as session:
                await session.settle(identity, talk.renewal())
                await session.exercise()
            await _freeze(files, folder / _DEVICES)
            process.wait(talk.LIMIT)


async def _freeze(files: GuestFiles, devices: Path) -> None:
    """Save the device state and have QEMU end by itself, so that its disk is whole."""
    async with asyncio.timeout(talk.LIMIT), monitor(files.monitor) as qemu:
        await qemu.call("stop")
        await qemu.use_shared_memory()
        await qemu.call("migrate", {"uri": f"exec:cat >{shlex.quote(str(devices))}"})
        await qemu.migrated()
        await qemu.call("quit")


async def _fork(image: BootImage, files: GuestFiles, template: Path) -> float:
    vm_id = new_vm_id()
    identity = await AgentGuest().new_identity(vm_id)
    command = qemu_command(image, files, vm_id, ram=template / _RAM, incoming=True)
    with (template / _DEVICES).open("rb") as devices:
        began = time.monotonic()
        with running(*command, cwd=files.folder, pass_fds=(devices.fileno(),)) as process:
            async with asyncio.timeout(talk.LIMIT), monitor(files.monitor) as qemu:
                await qemu.use_shared_memory()
                await qemu.call("migrate-incoming", {"uri": f"fd:{devices.fileno()}"})
                await qemu.migrated()
                async with talk.agent(process, files.control, lambda: qemu.call("cont")) as session:
                    await talk.first_line(session, identity, files.log)
                    return time.monotonic() - began


def _key(image: BootImage) -> str:
    """Return the digest of what a template depends on."""
    version = run(emulator(image.architecture), "--version", cwd=Path("/"))
    command = qemu_command(image, GuestFiles(Path("vm")), "", ram=Path(_RAM))
    facts = (version, os.uname().release, image.version, *command)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]
