"""Space kept back for the day when the disk is full (F30): without it not even an end can be written."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 8 * MIB
#: Free space that must be there before the ballast takes its share again.
_ROOM = 4 * SIZE
_PAUSE = 60.0


class Ballast:
    """A file of 8 MiB that is given up once, and made again when there is room."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._released_at: float | None = None

    def restore(self) -> None:
        """Make the file where it is missing and the disk has room; otherwise leave it for later."""
        try:
            if self._path.exists() and self._path.stat().st_size >= SIZE:
                self._released_at = None
                return
            space = os.statvfs(self._path.parent)
            if space.f_bavail * space.f_frsize < _ROOM:
                return
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(descriptor, 0o600)  # whatever the umask (F25)
                os.posix_fallocate(descriptor, 0, SIZE)
            finally:
                os.close(descriptor)
        except OSError:
            return  # a help, not a need: the next open tries again
        self._released_at = None

    def release(self) -> bool:
        """Give the space back. Returns whether there was any to give."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        self._released_at = time.monotonic()
        return True

    def tend(self) -> None:
        """Make a released file again, trying at most once a minute."""
        if self._released_at is not None and time.monotonic() - self._released_at > _PAUSE:
            self._released_at = time.monotonic()
            self.restore()
