"""Images and disks without contents."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from magpie_local.domain.vm import BootImage
from magpie_local.errors import HostDiskFull, HostError, ImageNotFound, InvalidInput, WorkspaceDamaged
from magpie_local.ports.hypervisor import DiskFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

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
    """The Disks port: an image is a text file that says what a real one would hold.

    Its keys: `base` (what it lies on, or null), `format` (of that), `size_gb`, and `written` once a test has put
    something there.
    """

    def __init__(self) -> None:
        #: Raise HostDiskFull instead.
        self.full = False
        #: Images that were checked, in order.
        self.checked: list[Path] = []

    async def overlay(self, path: Path, base: Disk, *, size_gb: int | None = None, beside: bool = False) -> None:
        """Create the file, 0600.

        Raises:
            HostDiskFull: the fault is set.
        """
        if size_gb is None and beside:
            size_gb = _read(base.path)["size_gb"]
        named = base.path.name if beside else str(base.path)
        self._write(path, {"base": named, "format": base.format, "size_gb": size_gb})

    async def blank(self, path: Path, size_gb: int) -> None:
        """Create the file, 0600.

        Raises:
            HostDiskFull: the fault is set.
        """
        self._write(path, {"base": None, "size_gb": size_gb})

    async def resize(self, path: Path, size_gb: int) -> None:
        """Write the new size.

        Raises:
            HostError: it is smaller.
        """
        facts = _read(path)
        if size_gb < facts["size_gb"]:
            raise HostError(f"{path} would shrink.", hint="")
        self._write(path, facts | {"size_gb": size_gb})

    async def export(self, head: Path, target: Path, *, compress: bool = False) -> None:
        """Write one file without a base.

        Raises:
            InvalidInput: there is something at `target`.
        """
        facts = _read(head)
        self._write(target, facts | {"base": None, "compressed": compress}, new=True)

    async def import_(self, source: Path, target: Path) -> int:
        """Copy a file that `export` wrote.

        Raises:
            InvalidInput: it is none.
        """
        try:
            facts = _read(source)
        except WorkspaceDamaged as error:
            raise InvalidInput("path", str(source), error.message) from None
        self._write(target, facts)
        return int(facts["size_gb"])

    async def inspect(self, chain: Sequence[Path]) -> DiskFacts:
        """Compare what the files say.

        Raises:
            WorkspaceDamaged: one is missing, no image, or lies on something else.
        """
        for path, below in zip(chain, [*chain[1:], None], strict=True):
            if _read(path)["base"] != (below.name if below else None):
                raise WorkspaceDamaged(f"{path} lies on another disk than it should.")
        top = _read(chain[0])
        return DiskFacts(size_gb=top["size_gb"], untouched=bool(top["base"]) and "written" not in top)

    async def check(self, path: Path) -> int:
        """Note that it was asked for.

        Raises:
            WorkspaceDamaged: it is no image.
        """
        _read(path)
        self.checked.append(path)
        return 0

    def _write(self, path: Path, facts: Mapping[str, object], *, new: bool = False) -> None:
        if self.full:
            raise HostDiskFull
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_EXCL if new else os.O_TRUNC), 0o600)
        except FileExistsError:
            raise InvalidInput("path", str(path), "there is something already; nothing is overwritten") from None
        os.write(fd, json.dumps(facts).encode())
        os.close(fd)


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise WorkspaceDamaged(f"{path} is missing.") from None
    except ValueError:
        raise WorkspaceDamaged(f"{path} is no disk.") from None
    if not isinstance(facts, dict) or "base" not in facts:
        raise WorkspaceDamaged(f"{path} is no disk.")
    return facts
