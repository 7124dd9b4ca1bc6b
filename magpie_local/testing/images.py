"""Images and disks without contents."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from magpie_local.domain.vm import BootImage
from magpie_local.errors import HostDiskFull, ImageNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from magpie_local.domain.vm import Disk


class FakeImages:
    """The Images port: each of `names` is a built image of dummy files below `folder`."""

    def __init__(self, folder: Path, names: Iterable[str] = ("base",)) -> None:
        self._folder = folder
        self._names = frozenset(names)
        #: Another one stands for images that were built anew.
        self.version = "fake-1"

    async def resolve(self, name: str) -> BootImage:
        """Return the image.

        Raises:
            ImageNotFound: it is not one of the names.
        """
        if name not in self._names:
            raise ImageNotFound(f"There is no image {name!r}.")
        folder = self._folder / name
        kernel, initrd, root, scratch = files = [folder / part for part in ("kernel", "initrd", "root", "scratch")]
        if not scratch.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file in files:
                file.write_bytes(b"fake")
        return BootImage(
            name=name, version=self.version, kernel=kernel, initrd=initrd, root=root, scratch=scratch,
            cmdline="quiet", architecture="x86_64", min_memory_mb=64,
        )  # fmt: skip


class FakeDisks:
    """The Disks port: an overlay is a text file that names its base."""

    def __init__(self) -> None:
        #: Raise HostDiskFull instead.
        self.full = False

    async def overlay(self, path: Path, base: Disk) -> None:
        """Create the file, 0600.

        Raises:
            HostDiskFull: the fault is set.
        """
        if self.full:
            raise HostDiskFull
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, json.dumps({"base": str(base.path), "format": base.format}).encode())
        os.close(fd)
