"""Packs what a job is given into one tar file, before its VM is there."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.archive import Upload, check_upload
from magpie_local.errors import HostDiskFull, HostError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: What is sent at a time.
_BLOCK = 1024 * 1024
_MAX_DEPTH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A tar file on this machine, and what it is announced by."""

    path: Path
    size: int
    crc: int

    def blocks(self) -> Iterator[bytes]:
        """Yield its content.

        Raises:
            OSError: it can't be read.
        """
        with self.path.open("rb") as file:
            while data := file.read(_BLOCK):
                yield data


def pack(uploads: Iterable[Upload], target: Path) -> Packed:
    """Write a new file `target` (0600) with all uploads, owned by root in the guest. This blocks.

    Permissions and empty folders are kept. It is whole or not there.

    Raises:
        InvalidInput: a name is not allowed or there twice; a source is missing, no file or folder, or has a link or
            something else below it that is none.
        HostDiskFull, HostError: it can't be written.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            summed = _Summed(file)
            with tarfile.open(fileobj=summed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                _Packing(archive).add_all(uploads)
    except OSError as error:
        if error.errno != errno.EEXIST:
            target.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise HostDiskFull(f"There is no room for what is to be uploaded: {target}.") from error
        raise HostError(f"Can't write {target}: {error.strerror or error}.", hint="") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Packed(path=target, size=summed.size, crc=summed.crc)


class _Summed(io.RawIOBase):
    """A file that is only written, with its size and CRC-32."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self.size = self.crc = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)


class _Packing:
    """One packing."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._names: set[str] = set()

    def add_all(self, uploads: Iterable[Upload]) -> None:
        for upload in uploads:
            check_upload(upload)
            if upload.path in self._names:
                raise InvalidInput("uploads", upload.path, "it is there twice")
            self._names.add(upload.path)
            if upload.content is not None:
                member = _member(upload.path, upload.mode, len(upload.content))
                self._archive.addfile(member, io.BytesIO(upload.content))
            else:
                self._add_source(upload)

    def _add_source(self, upload: Upload) -> None:
        assert upload.source is not None
        source = os.path.abspath(upload.source)
        with _told(source):
            # Only below what was named, a link may lead to what nobody meant.
            file = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(file)
            if stat.S_ISDIR(info.st_mode):
                self._add_folder(upload.path, source, file, info, 0)
            elif upload.path == ".":
                raise InvalidInput("uploads", source, "only a folder can be the working directory itself")
            else:
                self._add_file(upload.path, source, file, info)
        finally:
            os.close(file)

    def _add_folder(self, name: str, source: str, folder: int, info: os.stat_result, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise InvalidInput("uploads", source[:200], f"folders may be nested {_MAX_DEPTH} deep")
        if name != ".":
            self._archive.addfile(_member(name, stat.S_IMODE(info.st_mode), 0, info, tarfile.DIRTYPE))
        for entry in sorted(os.listdir(folder)):
            path = f"{source}/{entry}"
            self._add_entry(entry if name == "." else f"{name}/{entry}", path, entry, folder, depth)

    def _add_entry(self, name: str, path: str, entry: str, folder: int, depth: int) -> None:
        with _told(path):
            mode = os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                what = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise InvalidInput("uploads", path, f"it is {what}", hint="Leave it out, or name what it stands for.")
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(entry, flags, dir_fd=folder)
        try:
            info = os.fstat(file)
            if stat.S_ISDIR(info.st_mode):
                self._add_folder(name, path, file, info, depth + 1)
            else:
                self._add_file(name, path, file, info)
        finally:
            os.close(file)

    def _add_file(self, name: str, source: str, file: int, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            raise InvalidInput("uploads", source, "it is neither a file nor a folder")
        member = _member(name, stat.S_IMODE(info.st_mode), info.st_size, info)
        with os.fdopen(os.dup(file), "rb") as content:
            try:
                self._archive.addfile(member, content)
            except OSError as error:
                if error.errno is None:  # tarfile's own: the content ended too early
                    raise InvalidInput("uploads", source, "it became shorter while it was read") from error
                raise


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Tell what can't be read as the input that it is."""
    try:
        yield
    except OSError as error:
        raise InvalidInput("uploads", path, f"it can't be read: {error.strerror or error}") from error


def _member(
    name: str, mode: int, size: int, info: os.stat_result | None = None, kind: bytes = tarfile.REGTYPE
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.size, member.type = mode, size, kind
    member.mtime = 0 if info is None else int(info.st_mtime)
    return member
