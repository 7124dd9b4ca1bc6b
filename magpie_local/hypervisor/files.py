"""Files that are ours alone."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from magpie_local.errors import HostDiskFull, HostError


def claim(*paths: Path) -> None:
    """Make files of mode 0600 for QEMU to write to; by itself it would let the group in. One that is there stays.

    Raises:
        HostDiskFull, HostError: names the file; a symbolic link is refused.
    """
    for path in paths:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise _refusal(path, error) from error


def make_new(path: Path) -> None:
    """Make an empty file of mode 0600 that must not be there yet.

    Raises:
        HostDiskFull, HostError: names the file.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _refusal(path, error) from error


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 in one step: readers see the old or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)


def _refusal(path: Path, error: OSError) -> HostDiskFull | HostError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostDiskFull(f"There is no room for {path}.")
    return HostError(f"Can't make {path}: {error.strerror}.", hint="")
