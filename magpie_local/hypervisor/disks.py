"""Disk images through qemu-img. Formats are always named, and no name is taken for an option or a URL (F83, F84)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.errors import HostDiskFull, HostError, HypervisorUnavailable
from magpie_local.hypervisor.files import claim

if TYPE_CHECKING:
    from magpie_local.domain.vm import Disk

TOOL = "qemu-img"


class QemuDisks:
    """The Disks port."""

    async def overlay(self, path: Path, base: Disk) -> None:
        """Create a qcow2 at `path` (0600) whose content is `base` until written.

        Raises:
            HostDiskFull, HostError, HypervisorUnavailable (no qemu-img).
        """
        # qemu-img reads `json:...` and `nbd://...` as such, but never what begins with a slash.
        backing, image = str(Path.cwd() / base.path), str(Path.cwd() / path)
        await asyncio.to_thread(claim, path)
        await _run("create", "-q", "-f", "qcow2", "-F", base.format, "-b", backing, "--", image)


async def _run(*arguments: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            TOOL, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise HypervisorUnavailable(f"{TOOL} is not installed.", hint="apt-get install qemu-utils") from None
    _, said = await process.communicate()
    if process.returncode == 0:
        return
    text = said.decode(errors="replace").strip()
    if "No space left" in text:
        raise HostDiskFull(f"There is no room for a VM's disk: {text}")
    raise HostError(f"{TOOL} {arguments[0]} failed: {text}", hint="")
