"""Files out of a VM. Whoever answers there may be hostile: it decides names, types, sizes and content.

What keeps it in bounds:

- A name is one path component. All else ('..', '/', a NUL, an empty one) ends the copy.
- Everything is made in a fresh folder beside the destination that only we can enter, each file by O_EXCL and
  O_NOFOLLOW relative to its folder's descriptor. No link is ever made, so none can be followed.
- Only regular files and folders are made; number, size and depth are limited as the bytes come, whatever was announced.
- The destination appears by one rename at the end. A copy that fails leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.errors import TransferRefused
from magpie_local.guest.ssh.entry import DOTS, FILE_MODE, FOLDER_MODE, is_folder, kept, kind_of, refuse, safe_name
from magpie_local.guest.ssh.pieces import fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncssh

    from magpie_local.guest.ssh.tally import Tally

_TOP = "content"
_IN_THE_WAY = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}
#: What file systems without hard links say.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}


class Download:
    """One copy out of a VM."""

    def __init__(self, sftp: asyncssh.SFTPClient, tally: Tally) -> None:
        self._sftp = sftp
        self._tally = tally
        #: The folders made, each after those in it, with the permissions they are to have.
        self._folders: list[tuple[str, int]] = []

    async def copy(self, source: str, destination: Path, *, replace: bool) -> None:
        """Copy a file or folder to exactly `destination`."""
        attributes = await self._sftp.stat(source)
        folder = is_folder(repr(source), attributes.permissions)
        _refuse_what_is_in_the_way(destination, folder=folder, replace=replace)
        with _fresh_folder(destination) as (fresh, descriptor):
            if folder:
                await self._folder(source, _TOP, "", descriptor, attributes, 0)
                self._put_folder(fresh, destination, attributes)
            else:
                await self._file(source, _TOP, Path(source).name, descriptor, attributes)
                _put_file(fresh / _TOP, destination, replace=replace)

    async def _folder(
        self, source: str, name: str, path: str, parent: int, attributes: asyncssh.SFTPAttrs, depth: int
    ) -> None:
        self._tally.add_folder(path, depth)
        _make_folder(name, path, parent)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            async for entry, inside in self._entries(source):
                below = f"{path}/{entry}" if path else entry
                await self._entry(f"{source}/{entry}", entry, below, descriptor, inside, depth)
            if path:
                self._folders.append((f"{_TOP}/{path}", kept(attributes.permissions)))
        finally:
            os.close(descriptor)

    async def _entry(
        self, source: str, name: str, path: str, parent: int, attributes: asyncssh.SFTPAttrs, depth: int
    ) -> None:
        match kind_of(attributes.permissions):
            case "file":
                await self._file(source, name, path, parent, attributes)
            case "folder":
                await self._folder(source, name, path, parent, attributes, depth + 1)
            case kind:
                self._tally.leave_out(path, kind)

    async def _file(self, source: str, name: str, path: str, parent: int, attributes: asyncssh.SFTPAttrs) -> None:
        self._tally.add_file()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with _twice_refused(path):
            descriptor = os.open(name, flags, FILE_MODE, dir_fd=parent)
        try:
            await fetch(
                self._sftp, source, descriptor, size=attributes.size or 0, limit=self._tally.room,
                tell=lambda count: self._tally.add_bytes(path, count),
            )  # fmt: skip
            os.fchmod(descriptor, kept(attributes.permissions))
        finally:
            os.close(descriptor)

    async def _entries(self, source: str) -> AsyncIterator[tuple[str, asyncssh.SFTPAttrs]]:
        dots = 0
        async for entry in self._sftp.scandir(source):
            name = safe_name(entry.filename)
            if name is not None:
                yield name, await self._complete(f"{source}/{name}", entry.attrs)
                continue
            dots += 1
            if dots > DOTS:
                raise TransferRefused(f"The VM's list of {source[:100]!r} has no end.")

    async def _complete(self, path: str, attributes: asyncssh.SFTPAttrs) -> asyncssh.SFTPAttrs:
        """Return attributes with type and permissions; a server may list names without."""
        return attributes if attributes.permissions is not None else await self._sftp.lstat(path)

    def _put_folder(self, fresh: Path, destination: Path, attributes: asyncssh.SFTPAttrs) -> None:
        """Give the folders their permissions, and the whole its place."""
        # Its own come last: a folder that can't be written can't be moved.
        top = os.open(fresh / _TOP, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for path, mode in self._folders:
                (fresh / path).chmod(mode)
            (fresh / _TOP).rename(destination)  # takes the place of nothing but an empty folder
            os.fchmod(top, kept(attributes.permissions))
        except OSError as error:
            for path, _ in reversed(self._folders):
                (fresh / path).chmod(FOLDER_MODE)  # it must be possible to remove them
            if error.errno in _IN_THE_WAY:
                raise TransferRefused(f"{destination} came in the way meanwhile.") from error
            raise
        finally:
            os.close(top)


def _refuse_what_is_in_the_way(destination: Path, *, folder: bool, replace: bool) -> None:
    try:
        found = destination.lstat().st_mode
    except FileNotFoundError:
        return
    empty = kind_of(found) == "folder" and not any(destination.iterdir())
    refuse(destination, found=found, folder=folder, replace=replace, empty=empty)


def _make_folder(name: str, path: str, parent: int) -> None:
    with _twice_refused(path):
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)


@contextlib.contextmanager
def _twice_refused(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise TransferRefused(f"The VM told of {path[:100]!r} twice.") from error


@contextlib.contextmanager
def _fresh_folder(destination: Path) -> Iterator[tuple[Path, int]]:
    """Give a folder beside the destination that only we can enter, and its descriptor; it is removed at the end."""
    fresh = Path(tempfile.mkdtemp(prefix=".magpie-", dir=destination.parent))  # mode 0700
    descriptor = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fresh, descriptor
    finally:
        os.close(descriptor)
        shutil.rmtree(fresh)


def _put_file(made: Path, destination: Path, *, replace: bool) -> None:
    """Give a file its place, in one step."""
    try:
        if not replace:
            os.link(made, destination, follow_symlinks=False)  # fails where something came meanwhile; rename would not
            return
    except FileExistsError as error:
        raise TransferRefused(f"{destination} came in the way meanwhile.") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    made.rename(destination)
