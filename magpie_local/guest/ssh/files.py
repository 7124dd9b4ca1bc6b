"""The files of a VM over SFTP (the ShellFiles port)."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, cast

import asyncssh

from magpie_local.errors import GuestFileNotFound, SshLost, TransferError, TransferRefused
from magpie_local.guest.ssh.download import Download
from magpie_local.guest.ssh.entry import kind_of, safe_name
from magpie_local.guest.ssh.link import told_as_ssh_errors
from magpie_local.guest.ssh.tally import Tally
from magpie_local.guest.ssh.upload import Upload
from magpie_local.ports.shell import COPY_LIMITS, READ_LIMIT, FileEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from magpie_local.guest.ssh.link import SshLink
    from magpie_local.ports.shell import CopyLimits, CopyReport, OnProgress

#: Most entries of one folder that are listed.
MAX_LISTED = 100_000
_MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


class SshFilesOfVm:
    """The files that the user who is logged in sees. Relative paths begin at that user's home."""

    def __init__(self, link: SshLink) -> None:
        self._link = link

    async def list(self, path: str) -> list[FileEntry]:
        """Return the entries of a folder by name."""
        found = []
        async with self._session(path, "can't be listed") as sftp:
            seen = 0
            async for entry in sftp.scandir(path):
                seen += 1
                if seen > MAX_LISTED:
                    raise TransferRefused(f"{path!r} has more than {MAX_LISTED} entries.")
                if (name := safe_name(entry.filename)) is not None:
                    found.append(_entry(name, entry.attrs))
        return sorted(found, key=lambda entry: entry.name)

    async def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes:
        """Return a file's content."""
        async with self._session(path, "can't be read") as sftp, sftp.open(path, "rb") as file:
            data = cast(bytes, await file.read(limit + 1))
        if len(data) > limit:
            raise TransferRefused(f"{path!r} has more than {limit} bytes.", hint="Download it to a file instead.")
        return data

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file whole or not at all; one that is there is replaced."""
        async with self._session(path, "can't be written") as sftp:
            await Upload(sftp, Tally(COPY_LIMITS, None)).write(path, data, mode)

    async def download(
        self,
        source: str,
        destination: Path,
        *,
        limits: CopyLimits = COPY_LIMITS,
        replace: bool = False,
        on_progress: OnProgress | None = None,
    ) -> CopyReport:
        """Copy a file or a folder out of the VM, to exactly `destination` (ports.shell has the particulars)."""
        tally = Tally(limits, on_progress)
        async with self._session(source, f"can't be copied to {destination}") as sftp:
            await Download(sftp, tally).copy(source, destination, replace=replace)
        return tally.report()

    async def upload(
        self,
        source: Path,
        destination: str,
        *,
        limits: CopyLimits = COPY_LIMITS,
        replace: bool = False,
        on_progress: OnProgress | None = None,
    ) -> CopyReport:
        """Copy a file or a folder into the VM; otherwise as `download`."""
        tally = Tally(limits, on_progress)
        async with self._session(destination, f"can't be copied from {source}") as sftp:
            await Upload(sftp, tally).copy(source, destination, replace=replace)
        return tally.report()

    @contextlib.asynccontextmanager
    async def _session(self, path: str, what: str) -> AsyncIterator[asyncssh.SFTPClient]:
        """Give the SFTP session; errors from within are told as ours."""
        try:
            with self._link.in_use():
                sftp = await self._link.sftp()
                with told_as_ssh_errors(f"{path!r} {what}"):
                    yield sftp
        except SshLost:
            self._link.drop_sftp()
            raise
        except _MISSING as error:
            raise GuestFileNotFound(f"There is no {path!r} in the VM, or something below it went meanwhile.") from error
        except asyncssh.SFTPError as error:
            raise TransferError(f"{path!r} {what}: {error.reason[:200]}.") from error
        except OSError as error:
            raise TransferError(f"{path!r} {what}: {error.strerror or error}.") from error


def _entry(name: str, attributes: asyncssh.SFTPAttrs) -> FileEntry:
    mode = attributes.permissions or 0
    return FileEntry(
        name=name, kind=kind_of(mode), size=attributes.size or 0, mode=stat.S_IMODE(mode),
        modified=attributes.mtime or 0,
    )  # fmt: skip
