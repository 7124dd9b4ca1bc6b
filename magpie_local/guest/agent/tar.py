"""A writer of tar streams (POSIX.1-2001): `tarfile` would cost an emulated guest half a second to import."""

from __future__ import annotations

import os
import stat
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 512
#: Ends a stream.
END = bytes(2 * BLOCK)
_READ = 256 * 1024
_MAX_NAME, _MAX_NUMBER = 100, 8**11 - 1
_FILE, _LINK, _FOLDER, _EXTENDED = b"0", b"2", b"5", b"x"


class Gone(Exception):
    """What was to be written is not there any more, or no longer what it was."""


class Tar:
    """Writes files, folders and links to a descriptor, and keeps count of it all.

    Args:
        fd: it may block.
        go_on: asked between two blocks; where it says no, the file is filled up with zeros.
    """

    def __init__(self, fd: int, go_on: Callable[[], bool]) -> None:
        self._fd = fd
        self._go_on = go_on
        #: Regular files; bytes of the stream, and their CRC-32.
        self.files = self.size = self.crc = 0
        #: The stream is cut short of what it was to hold.
        self.broken = False

    def folder(self, name: str, info: os.stat_result, room: int) -> bool:
        """Write a folder, as `file` does; what is in it comes by itself."""
        return self._fitting(_header(f"{name}/", info, _FOLDER), room)

    def link(self, name: str, info: os.stat_result, target: str, room: int) -> bool:
        """Write a symbolic link, as `file` does."""
        return self._fitting(_header(name, info, _LINK, target=target), room)

    def file(self, name: str, path: str, room: int) -> bool:
        """Write a regular file; return whether it fits into `room` bytes.

        The size is that at the start: one that grows is cut off there, one that shrinks is filled up with zeros.

        Raises:
            Gone: it is no regular file now, or can't be read.
        """
        try:
            # O_NONBLOCK: a file that has become a FIFO must not hold us.
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise Gone(os.strerror(error.errno or 0)) from None
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise Gone("no regular file")
            size = info.st_size
            if not self._fitting(_header(name, info, _FILE, size), room - size - -size % BLOCK):
                return False
            self._content(file, size)
            self.files += 1
            return True
        finally:
            os.close(file)

    def end(self) -> None:
        """Write the end of the stream."""
        self._write(END)

    def _content(self, file: int, size: int) -> None:
        left = size
        while left > 0:
            data = _read(file, min(left, _READ)) if not self.broken else b""
            if not self._go_on():
                self.broken = True
            if not data:
                self._zeros(left)
                break
            self._write(data)
            left -= len(data)
        self._zeros(-size % BLOCK)

    def _zeros(self, count: int) -> None:
        zeros = bytes(min(count, _READ))
        while count > 0:
            self._write(zeros[: min(count, _READ)])
            count -= len(zeros)

    def _fitting(self, header: bytes, room: int) -> bool:
        if len(header) > room:
            return False
        self._write(header)
        return True

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        self.crc = crc32(data, self.crc)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def _read(file: int, size: int) -> bytes:
    try:
        return os.read(file, size)
    except OSError:
        return b""  # unreadable from here on: filled up


def _header(name: str, info: os.stat_result, kind: bytes, size: int = 0, target: str = "") -> bytes:
    mtime = max(0, int(info.st_mtime))
    records = _long({"path": name, "linkpath": target}) + _large({"size": size, "mtime": mtime})
    header = _block(name, stat.S_IMODE(info.st_mode), size, mtime, kind, os.fsencode(target))
    if not records:
        return header
    return _block("pax", 0o644, len(records), 0, _EXTENDED, b"") + records + bytes(-len(records) % BLOCK) + header


def _long(texts: dict[str, str]) -> bytes:
    """Return records for names that a header has no room for, or whose characters have no agreed code there."""
    records = b""
    for key, text in texts.items():
        data = os.fsencode(text)
        if len(data) > _MAX_NAME or not text.isascii():
            records += _record(key, data)
    return records


def _large(numbers: dict[str, int]) -> bytes:
    return b"".join(_record(key, b"%d" % number) for key, number in numbers.items() if number > _MAX_NUMBER)


def _record(key: str, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE`; the length counts its own digits."""
    rest = b" %s=%s\n" % (key.encode(), value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)


def _block(name: str, mode: int, size: int, mtime: int, kind: bytes, target: bytes) -> bytes:
    fields = (
        os.fsencode(name)[:_MAX_NAME].ljust(100, b"\0"), b"%07o\0" % mode, b"0000000\0" * 2,
        b"%011o\0" % min(size, _MAX_NUMBER), b"%011o\0" % min(mtime, _MAX_NUMBER), b" " * 8, kind,
        target[:_MAX_NAME].ljust(100, b"\0"), b"ustar\x0000",
    )  # fmt: skip
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
