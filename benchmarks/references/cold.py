"""Our own guest, booted by QEMU with nothing between: what the rest of this project adds to a cold start."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.references import talk
from benchmarks.references.image import base_image
from benchmarks.references.machine import emulator, guest_files, qemu_command
from benchmarks.references.processes import require, running
from magpie_local.domain.ids import new_vm_id
from magpie_local.guest.channel import AgentGuest

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.references.machine import GuestFiles
    from magpie_local.domain.identity import Identity
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.vm import BootImage


class RawCold:
    """Boots our image with plain QEMU.

    Args:
        images: the folder of built images.
    """

    name = "reference: raw QEMU boots our guest"

    def __init__(self, images: Path) -> None:
        self._images = images
        self._image: BootImage | None = None

    def prepare(self) -> None:
        """See that there is an image and a QEMU."""
        require("qemu-img", "setpriv")
        self._image = base_image(self._images)
        emulator(self._image.architecture)

    def start_seconds(self) -> float:
        """Return the seconds from the start of QEMU to the first output line of a script."""
        assert self._image is not None, "call prepare() first"
        vm_id = new_vm_id()
        with guest_files(self._image.scratch) as files:
            return asyncio.run(_start(self._image, files, vm_id))


async def _start(image: BootImage, files: GuestFiles, vm_id: VmId) -> float:
    identity: Identity = await AgentGuest().new_identity(vm_id)
    began = time.monotonic()
    with running(*qemu_command(image, files, vm_id), cwd=files.folder, output=subprocess.DEVNULL) as process:
        async with talk.agent(process, files.control) as session:
            await talk.first_line(session, identity, files.log)
            return time.monotonic() - began
