"""Unpacks what a guest handed over. It decides names, types, sizes and content, and may be hostile (F98).

What keeps it in bounds:

- A name that leads out of the target, or that no file can have, ends it all (domain.archive).
- Everything is made in a fresh folder beside the target, which only we can enter: each file by O_EXCL and O_NOFOLLOW,
  relative to its folder's descriptor, each folder likewise. No link is ever made, so none can be followed.
- Number and size are limited before anything is written, and no permission but read, write and execute is kept.
- The target appears by one rename at the end. What fails leaves nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.archive import TarReader, safe_parts
from magpie_local.errors import HostDiskFull, TransferError, TransferRefused

if TYPE_CHECKING:
    import io

    from magpie_local.domain.archive import Member

#: Most files, folders and other entries.
MAX_ENTRIES = 100_000
_CHUNK = 256 * 1024
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_NOTES = 1000
#: What file systems can keep; a guest's clock may be anything.
_MAX_TIME = 2**33


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What came of it."""

    files: int
    folders: int
    #: Bytes of all files' content.
    size: int
    #: What was left out, and why.
    notes: tuple[str, ...]


def unpack(
    stream: Path, target: Path, *, size: int, crc: int, max_size: int, max_entries: int = MAX_ENTRIES
) -> Unpacked:
    """Make the folder `target` (0700) with what is in a guest's tar stream. This blocks.

    Files and folders are made, with their permissions as far as their owner's own are not touched; links and all else
    are left out, with a note.

    Args:
        stream: the file; what it holds beyond `size` bytes is not read.
        target: there must be nothing, or an empty folder.
        size, crc: of the stream, as the guest says.
        max_size: most bytes of content.
        max_entries: most entries of any kind.

    Raises:
        TransferRefused: the stream is not safe, damaged, or too much; or something is in the way.
        HostDiskFull, TransferError: it can't be read or written.
    """
    fresh = ""
    try:
        with stream.open("rb", buffering=0) as file:
            fresh = tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)
            source = _Source(file, size)
            unpacked = _Unpacking(TarReader(source.read), max_size, max_entries).into(fresh)
            source.check(crc)
        Path(fresh).rename(target)
    except OSError as error:
        raise _told(error, target) from error
    finally:
        if fresh:
            shutil.rmtree(fresh, ignore_errors=True)
    return unpacked


class _Source:
    """The first bytes of a file, and their CRC-32."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file = file
        self._left = size
        self._crc = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left)) or b""
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        return data

    def check(self, crc: int) -> None:
        while self.read(_CHUNK):
            pass
        if self._left or self._crc != crc:
            raise TransferRefused("What the guest sent was damaged on its way.")


class _Unpacking:
    """One unpacking."""

    def __init__(self, reader: TarReader, room: int, entries: int) -> None:
        self._reader = reader
        self._room = self._limit = room
        self._entries = self._max_entries = entries
        self._files = self._folders = 0
        self._notes: list[str] = []

    def into(self, folder: str) -> Unpacked:
        top = os.open(folder, _FOLDER_FLAGS)
        try:
            while (member := self._reader.next()) is not None:
                self._add(top, member)
        finally:
            os.close(top)
        size = self._limit - self._room
        return Unpacked(files=self._files, folders=self._folders, size=size, notes=tuple(self._notes))

    def _add(self, top: int, member: Member) -> None:
        self._count()
        parts = safe_parts(member.name)
        if member.kind == "file" and parts:
            self._room -= member.size
            if self._room < 0:
                raise TransferRefused(f"The guest sent more than the {self._limit} bytes allowed.")
            self._add_file(top, parts, member)
        elif member.kind == "folder":
            os.close(self._folder(top, parts, member.mode))
        elif len(self._notes) < _MAX_NOTES:
            what = "a symbolic link" if member.kind == "link" else "neither a file nor a folder"
            self._notes.append(f"{member.name}: {what}")

    def _count(self) -> None:
        self._entries -= 1
        if self._entries < 0:
            raise TransferRefused(f"The guest sent more than the {self._max_entries} files and folders allowed.")

    def _add_file(self, top: int, parts: tuple[str, ...], member: Member) -> None:
        folder = self._folder(top, parts[:-1])
        try:
            try:
                file = os.open(parts[-1], _FILE_FLAGS, 0o600, dir_fd=folder)
            except FileExistsError:
                raise TransferRefused(f"The guest sent {member.name[:200]!r} twice.") from None
        finally:
            os.close(folder)
        try:
            for data in self._reader.content():
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
            os.fchmod(file, member.mode & 0o777 | 0o600)
            time = min(member.mtime, _MAX_TIME)
            os.utime(file, (time, time))
        finally:
            os.close(file)
        self._files += 1

    def _folder(self, top: int, parts: tuple[str, ...], mode: int | None = None) -> int:
        """Open a folder, after making what is missing of it; with `mode`, its own permissions are set."""
        folder = os.dup(top)
        try:
            for part in parts:
                folder = self._enter(folder, part)
            if mode is not None and parts:
                os.fchmod(folder, mode & 0o777 | 0o700)
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _enter(self, parent: int, name: str) -> int:
        """Open a folder in `parent`, which is closed; one that is missing counts as an entry."""
        try:
            inside = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            self._count()
            os.mkdir(name, 0o700, dir_fd=parent)
            self._folders += 1
            inside = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        except NotADirectoryError:
            raise TransferRefused(f"The guest sent {name[:200]!r} as a file and as a folder.") from None
        os.close(parent)
        return inside


def _told(error: OSError, target: Path) -> HostDiskFull | TransferError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HostDiskFull(f"There is no room for {target}.")
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
        return TransferRefused(f"{target} is in the way.", hint="Remove it, or choose another place.")
    return TransferError(f"Can't make {target}: {error.strerror or error}.", hint="")
