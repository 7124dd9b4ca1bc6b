"""What a copy has come to so far, and how much it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.errors import TransferRefused
from magpie_local.guest.ssh.entry import LEFT_OUT
from magpie_local.ports.shell import CopyReport

if TYPE_CHECKING:
    from magpie_local.guest.ssh.entry import Kind
    from magpie_local.ports.shell import CopyLimits, OnProgress

#: Deepest nesting of folders. Nobody's own is deeper, and a path's length is limited to 4,096 bytes anyway.
MAX_DEPTH = 128
#: Most notes; a million left-out links are told of by a sample.
_MAX_NOTES = 1000


class Tally:
    """Counts a copy and holds it to its limits."""

    def __init__(self, limits: CopyLimits, on_progress: OnProgress | None) -> None:
        self._limits = limits
        self._on_progress = on_progress
        self._files = self._folders = self._size = self._entries = 0
        self._notes: list[str] = []

    @property
    def room(self) -> int:
        """How many bytes more may be copied."""
        return self._limits.size - self._size

    def add_file(self) -> None:
        """Count a file.

        Raises:
            TransferRefused: there are too many.
        """
        self._files += 1
        self._count()

    def add_folder(self, path: str, depth: int) -> None:
        """Count a folder.

        Raises:
            TransferRefused: there are too many, or it is nested too deep.
        """
        self._folders += 1
        self._count()
        if depth > MAX_DEPTH:
            raise TransferRefused(f"Folders are nested more than {MAX_DEPTH} deep: {path[:100]!r}...")

    def add_bytes(self, path: str, count: int) -> None:
        """Count content, and tell whoever watches.

        Raises:
            TransferRefused: there is too much.
        """
        self._size += count
        if self._size > self._limits.size:
            raise TransferRefused(f"There are more than the {self._limits.size} bytes that may be copied.")
        if self._on_progress is not None:
            self._on_progress(path, self._size)

    def leave_out(self, path: str, kind: Kind) -> None:
        """Note what is left out; it counts as an entry, so that nobody lists them without end."""
        self._count()
        if len(self._notes) < _MAX_NOTES:
            self._notes.append(f"{path}: {LEFT_OUT[kind]}")

    def report(self) -> CopyReport:
        """Return what was copied."""
        return CopyReport(files=self._files, folders=self._folders, size=self._size, notes=tuple(self._notes))

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise TransferRefused(f"There are more than the {self._limits.entries} files and folders allowed.")
