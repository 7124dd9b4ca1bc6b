"""Files into a VM. They appear there by one rename, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import secrets
from typing import TYPE_CHECKING

import asyncssh

from magpie_local.errors import TransferRefused
from magpie_local.guest.ssh.entry import DOTS, FILE_MODE, FOLDER_MODE, is_folder, kept, kind_of, refuse, safe_name
from magpie_local.guest.ssh.pieces import send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from magpie_local.guest.ssh.tally import Tally

#: A pipe or device that took a file's place is opened without waiting, and then told by its type.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Upload:
    """One copy into a VM."""

    def __init__(self, sftp: asyncssh.SFTPClient, tally: Tally) -> None:
        self._sftp = sftp
        self._tally = tally
        #: The folders made, each after those in it, with the permissions they are to have.
        self._folders: list[tuple[str, int]] = []

    async def copy(self, source: Path, destination: str, *, replace: bool) -> None:
        """Copy a file or folder to exactly `destination`."""
        path, found = _followed(source)
        folder = is_folder(source, found.st_mode)
        await self._refuse_what_is_in_the_way(destination, folder=folder, replace=replace)
        fresh = fresh_name(destination)
        try:
            if folder:
                await self._folder(path, fresh, "", found, 0)
                await put_in_place(self._sftp, fresh, destination)  # takes the place of nothing but an empty folder
                # Last, each after those in it: one that can't be written could be neither moved nor removed.
                for below, mode in self._folders:
                    await self._sftp.chmod(f"{destination}/{below}", mode)
            else:
                await self._file(path, fresh, source.name)
                await put_in_place(self._sftp, fresh, destination)
        except BaseException:
            await asyncio.shield(remove(self._sftp, fresh))
            raise

    async def write(self, destination: str, data: bytes, mode: int) -> None:
        """Write a file whose content is in memory."""
        fresh = fresh_name(destination)
        try:
            async with self._sftp.open(fresh, "xb", asyncssh.SFTPAttrs(permissions=FILE_MODE)) as file:
                await file.write(data)
                await file.chmod(kept(mode))
            await put_in_place(self._sftp, fresh, destination)
        except BaseException:
            await asyncio.shield(remove(self._sftp, fresh))
            raise

    async def _folder(self, source: str, destination: str, path: str, found: os.stat_result, depth: int) -> None:
        self._tally.add_folder(path, depth)
        await self._sftp.mkdir(destination, asyncssh.SFTPAttrs(permissions=FOLDER_MODE))
        with os.scandir(source) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            below = f"{path}/{entry.name}" if path else entry.name
            await self._entry(entry, f"{destination}/{entry.name}", below, depth)
        self._folders.append((path, kept(found.st_mode)))

    async def _entry(self, entry: os.DirEntry[str], destination: str, path: str, depth: int) -> None:
        found = entry.stat(follow_symlinks=False)
        match kind_of(found.st_mode):
            case "file":
                await self._file(entry.path, destination, path)
            case "folder":
                await self._folder(entry.path, destination, path, found, depth + 1)
            case kind:
                self._tally.leave_out(path, kind)

    async def _file(self, source: str, destination: str, path: str) -> None:
        self._tally.add_file()
        with _opened(source) as descriptor:
            found = os.fstat(descriptor)
            if kind_of(found.st_mode) != "file":
                raise TransferRefused(f"{path!r} was a file a moment ago, and is none now.")
            attributes = asyncssh.SFTPAttrs(permissions=FILE_MODE)
            async with self._sftp.open(destination, "xb", attributes, block_size=0) as file:
                await send(
                    self._sftp, file, descriptor, size=found.st_size,
                    tell=lambda count: self._tally.add_bytes(path, count),
                )  # fmt: skip
                await file.chmod(kept(found.st_mode))

    async def _refuse_what_is_in_the_way(self, destination: str, *, folder: bool, replace: bool) -> None:
        try:
            found = (await self._sftp.lstat(destination)).permissions or 0
        except asyncssh.SFTPNoSuchFile:
            return
        empty = folder and kind_of(found) == "folder" and await self._is_empty(destination)
        refuse(f"{destination!r} in the VM", found=found, folder=folder, replace=replace, empty=empty)

    async def _is_empty(self, folder: str) -> bool:
        dots = 0
        async for entry in self._sftp.scandir(folder):
            dots += 1
            if dots > DOTS or safe_name(entry.filename) is not None:
                return False
        return True


def _followed(source: Path) -> tuple[str, os.stat_result]:
    """Return where what the caller names really is: it may be a link, nothing below it may."""
    path = os.path.realpath(source)
    return path, os.stat(path)


def fresh_name(destination: str) -> str:
    """Return the path of a file of ours beside the destination, on the same file system."""
    return posixpath.join(posixpath.dirname(destination.rstrip("/")), f".magpie-{secrets.token_hex(6)}")


async def put_in_place(sftp: asyncssh.SFTPClient, fresh: str, destination: str) -> None:
    """Rename a file to its destination, in place of another."""
    try:
        await sftp.posix_rename(fresh, destination)
    except asyncssh.SFTPOpUnsupported:  # a server without OpenSSH's extension: not in one step then
        with contextlib.suppress(asyncssh.SFTPNoSuchFile):
            await sftp.remove(destination)
        await sftp.rename(fresh, destination)


async def remove(sftp: asyncssh.SFTPClient, fresh: str) -> None:
    """Remove what a failed copy has left, as far as the VM lets us."""
    with contextlib.suppress(OSError, asyncssh.Error):
        if await sftp.isdir(fresh):
            await sftp.rmtree(fresh, ignore_errors=True)
        else:
            await sftp.remove(fresh)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, _OPEN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
