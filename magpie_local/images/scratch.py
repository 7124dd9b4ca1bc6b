"""The scratch disk: an empty ext4 file system in a qcow2 image, on which each VM's writes are an overlay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.sizes import GIB
from magpie_local.images import tools

if TYPE_CHECKING:
    from pathlib import Path

STEP = "scratch disk"

# No journal: the disk ends with its VM. All inode tables are ready: the guest's kernel need not write them later.
_FEATURES = "^has_journal,^resize_inode"
_EXTENDED = "lazy_itable_init=0,nodiscard,root_owner=0:0"


async def make(size_gb: int, target: Path, work: Path) -> None:
    """Make the disk at `target`; `work` takes a sparse file meanwhile.

    Raises:
        ImageBuildFailed: mkfs.ext4 or qemu-img failed.
    """
    raw = work / "scratch.raw"
    with raw.open("wb") as file:
        file.truncate(size_gb * GIB)
    await tools.run(
        STEP, "mkfs.ext4", "-q", "-F", "-m", "0", "-L", "scratch", "-O", _FEATURES, "-E", _EXTENDED, raw.name, cwd=work
    )
    # mkfs could fill in folders by itself (-d), but they would belong to whoever builds.
    (work / "folders").write_text("mkdir upper\nmkdir work\n")
    await tools.run(STEP, "debugfs", "-w", "-f", "folders", raw.name, cwd=work)
    await tools.run(STEP, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw.name, str(target), cwd=work)
    raw.unlink()
