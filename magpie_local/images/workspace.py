"""The temporary folders of a build, and their removal by the next build where one was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from magpie_local.images import tools

_STEP = "remove temporary files"


class BuildFolders:
    """Where a build works.

    `out` lies beside the finished images, so that a rename publishes it. `work` is where the user namespace of an
    ordinary user's build can reach it (home folders are often closed to it); `out` has a link to it, so that the next
    build finds what a killed one left.
    """

    def __init__(self, image: Path) -> None:
        self.out = image / ".building"
        self._pointer = self.out / "work"

    async def make(self) -> Path:
        """Make both folders, after removing those of a killed build; returns `work`."""
        await self.remove()
        self.out.mkdir(mode=0o755)
        return self._make_work()

    async def remove(self) -> None:
        """Remove both folders; nothing where there are none."""
        work = self._own_work()
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
            # What is left belongs to users of the namespace: only its root may remove it.
            if left := _names_in(work):
                await tools.run(_STEP, "mmdebstrap", "--unshare-helper", "rm", "-rf", "--", *left, cwd=work)
                shutil.rmtree(work)
        shutil.rmtree(self.out, ignore_errors=True)

    def _make_work(self) -> Path:
        work = Path(tempfile.mkdtemp(prefix="magpie-build-", dir="/var/tmp"))
        self._pointer.symlink_to(work)
        # The namespace's root is another user to the kernel; the sticky bit keeps other users' hands off its files.
        work.chmod(0o755 if os.geteuid() == 0 else 0o1777)
        return work

    def _own_work(self) -> Path | None:
        """Return where the link leads, if that folder is still there and ours."""
        try:
            work = self._pointer.readlink()
            return work if work.lstat().st_uid == os.geteuid() else None
        except OSError:
            return None


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
