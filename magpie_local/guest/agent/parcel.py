"""What comes as raw bytes behind a message: it goes to a file at once, since a guest may be small."""

from __future__ import annotations

import os
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Parcel:
    """A file while its bytes come in.

    Args:
        op: what it belongs to.
        path: of the file; one that is there is replaced.
        size, crc: what was announced.
    """

    def __init__(self, op: str, path: str, size: int, crc: int) -> None:
        self.op = op
        self.path = path
        #: Bytes that are still to come.
        self.missing = size
        self._expected_crc = crc
        self._crc = 0
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o700)

    def take(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ValueError: these are not the bytes that were announced.
            OSError: they can't be written: usually there is no room.
        """
        self.missing -= len(data)
        self._crc = crc32(data, self._crc)
        view = memoryview(data)
        while view and self.missing >= 0:
            view = view[os.write(self.file, view) :]
        self.check()

    def check(self) -> None:
        """Check what has come so far.

        Raises:
            ValueError: these are not the bytes that were announced.
        """
        if self.missing < 0 or (self.missing == 0 and self._crc != self._expected_crc):
            raise ValueError(f"what belongs to {self.op} was damaged on its way")

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


class Upload(Parcel):
    """A tar stream with files for the guest. Its file has no name: when it is closed, its room is free.

    Raises:
        KeyError, TypeError, ValueError: the message is no upload.
        OSError: there is no room for it.
    """

    def __init__(self, message: dict[str, Any], path: str) -> None:
        super().__init__("upload", path, int(message["size"]), int(message["crc"]))
        os.unlink(path)
