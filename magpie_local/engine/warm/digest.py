"""Checksums of sparse files: a template's memory is mostly holes, and those are neither read nor hashed."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 1024 * 1024
_ZEROS = bytes(_BLOCK)


def sparse_sha256(path: Path) -> str:
    """Return a digest of a file's size and of its blocks that are not all zeros: holes and written zeros are alike."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        digest = hashlib.sha256(str(size).encode())
        for offset in _blocks(descriptor, size):
            block = os.pread(descriptor, _BLOCK, offset)
            if block != _ZEROS[: len(block)]:
                digest.update(offset.to_bytes(8, "little"))
                digest.update(block)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def _blocks(descriptor: int, size: int) -> Iterator[int]:
    """Yield the offset of each aligned block that holds data."""
    at = 0
    while at < size:
        try:
            found = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        at = found - found % _BLOCK
        yield at
        at += _BLOCK
