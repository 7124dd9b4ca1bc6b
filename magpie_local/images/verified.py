"""The memory of compared checksums, so that a file of hundreds of megabytes is read once and not at each job."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from magpie_local.images.manifest import FileFacts


class Verified:
    """Which files had the right checksum, by path, size and time of change; written back on leaving the block.

    It saves time and proves nothing: where it can't be read or written, files are read again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._changed = False

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            raw = json.loads(self._path.read_bytes())
            self._known = raw if isinstance(raw, dict) else {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._changed:
            return
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        # The folder may belong to another user, or be on a full disk.
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps(self._known))
            fresh.replace(self._path)

    def knows(self, path: Path, status: os.stat_result, facts: FileFacts) -> bool:
        """Return whether this very file was compared before."""
        return self._known.get(_key(path)) == _mark(status, facts)

    def add(self, path: Path, status: os.stat_result, facts: FileFacts) -> None:
        """Remember a file whose checksum is right; `status` is from before it was read."""
        self._known[_key(path)] = _mark(status, facts)
        self._changed = True


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _mark(status: os.stat_result, facts: FileFacts) -> list[object]:
    return [status.st_size, status.st_mtime_ns, facts.sha256]
