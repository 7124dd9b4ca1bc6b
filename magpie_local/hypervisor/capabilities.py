"""What libvirt has learned about a QEMU binary, shared between state directories.

libvirt asks a new binary for its capabilities, which takes 2-8 s, and keeps the answer below its root. Every state
directory has a root of its own, so the answer is copied. libvirt checks it against the binary, its own version and the
kernel, and asks anew where anything differs: a stale copy costs time only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BELOW_ROOT = Path("cache/qemu/capabilities")
_BELOW_CACHE = Path("qemu-capabilities")


def seed(root: Path, cache: Path) -> None:
    """Copy what is known into a root that has nothing yet. A cache that can't be read is no error."""
    with contextlib.suppress(OSError):
        if not _files(root / _BELOW_ROOT):
            _copy(_files(cache / _BELOW_CACHE), root / _BELOW_ROOT)


def keep(root: Path, cache: Path) -> None:
    """Copy what a root has learned into the cache. A cache that can't be written is no error."""
    with contextlib.suppress(OSError):
        known = {path.name: path.read_bytes() for path in _files(cache / _BELOW_CACHE)}
        # Named after the binary's path, so an upgraded QEMU has the old name and other contents.
        learned = [path for path in _files(root / _BELOW_ROOT) if known.get(path.name) != path.read_bytes()]
        _copy(learned, cache / _BELOW_CACHE)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.xml") if path.is_file()]


def _copy(files: Iterable[Path], target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in files:
        descriptor, name = tempfile.mkstemp(dir=target, prefix=".")
        with os.fdopen(descriptor, "wb") as copy, path.open("rb") as original:
            shutil.copyfileobj(original, copy)
        Path(name).replace(target / path.name)
