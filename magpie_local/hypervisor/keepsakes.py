"""What a sleeping VM's disks lie on: an image, and for a fork a template. Both may be removed while it sleeps.

A VM that runs has these files open. One that sleeps has no process, so they get a second name (a hard link) in a folder
of its own, and are back at their places before it wakes. On another file system than the state directory's that is not
possible; such a file is not kept.

FOLDER/       0700
  index       JSON: of each name below, where the file was
  0, 1, …     the files
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.workspace import SERIAL
from magpie_local.errors import HostError
from magpie_local.hypervisor.qcow2 import BadDiskError, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDEX = "index"
_ANY_SIZE = 1 << 62


def keep(description: str, folder: Path) -> None:
    """Give what a VM lies on a second name in `folder`; what was kept before stays so.

    Args:
        description: the VM's, as libvirt writes it.
        folder: which only this VM uses; what lies in the one above it is the VM's own.

    Raises:
        HostError: the folder can't be written.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        index = _read(folder)
        for path in _beneath(description, folder.parent):
            if path not in index.values():
                _link(path, folder / str(len(index)), index)
        fresh = folder / f".{_INDEX}"
        fresh.write_text(json.dumps({name: os.fspath(path) for name, path in index.items()}), encoding="utf-8")
        fresh.replace(folder / _INDEX)
    except OSError as error:
        raise HostError(f"Can't keep what the VM's disks lie on: {error}.", hint="") from error


def put_back(folder: Path) -> None:
    """Have everything that was kept in `folder` at its place again; what is there stays."""
    for name, path in _read(folder).items():
        # What is missing all the same, QEMU names when it opens it.
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.link(folder / name, path)


def _link(path: Path, kept: Path, index: dict[str, Path]) -> None:
    try:
        kept.unlink(missing_ok=True)  # of a try that was cut short
        os.link(path, kept)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM):
            raise
        return
    index[kept.name] = path


def _read(folder: Path) -> dict[str, Path]:
    try:
        found = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {name: Path(path) for name, path in found.items()}


def _beneath(description: str, own: Path) -> Iterator[Path]:
    """Yield the files that a VM needs and that are not its own, nor its workspace's, which nobody may remove."""
    domain = ET.fromstring(description)
    for disk in domain.iterfind("devices/disk"):
        source = disk.find("source")
        if source is not None and disk.findtext("serial") != SERIAL:
            yield from (path for path in _chain(Path(source.get("file", ""))) if path.parent != own)
    for name in ("os/kernel", "os/initrd"):
        if text := domain.findtext(name):
            yield Path(text)


def _chain(path: Path) -> Iterator[Path]:
    while True:
        yield path
        try:
            with path.open("rb") as file:
                backing = read_header(file, _ANY_SIZE).backing
        except (BadDiskError, OSError):
            return  # a raw file, or nothing
        if backing is None:
            return
        path = path.parent / backing
