"""An order to run a script, while its bytes come in."""

from __future__ import annotations

import os
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RunOrder:
    """An order and its script, which goes to a file at once: a guest may be small.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the message is no such order.
    """

    def __init__(self, message: dict[str, Any], path: str) -> None:
        self.attempt = str(message["attempt"])
        self.nonce = str(message["nonce"])
        self.timeout = None if message["timeout"] is None else float(message["timeout"])
        self.env = {str(key): str(value) for key, value in message["env"].items()}
        #: The guest stays when the script has ended.
        self.persistent = message.get("persistent") is True
        self.log_limit = int(message["log_limit"])
        #: Values that the log must not show.
        self.mask = texts(message.get("mask", []))
        #: Patterns of files to hand over when it has ended, and most bytes of them.
        self.outputs = texts(message.get("outputs", []))
        self.outputs_limit = int(message.get("outputs_limit", 0))
        self.now = float(message["now"])
        self.entropy = bytes.fromhex(message["entropy"])
        self.path = path
        #: Bytes of the script that are still to come.
        self.missing = int(message["script_size"])
        self._expected_crc = int(message["script_crc"])
        self._crc = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o700)

    def take(self, data: bytes) -> None:
        """Take the next bytes of the script.

        Raises:
            ValueError: these are not the bytes that were announced.
        """
        self.missing -= len(data)
        self._crc = crc32(data, self._crc)
        if self.missing < 0 or (self.missing == 0 and self._crc != self._expected_crc):
            raise ValueError("the script was damaged on its way")
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def close(self) -> None:
        """Close the script's file."""
        os.close(self._file)


def texts(value: object) -> list[str]:
    """Return a list of texts as it is.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("not a list of texts")
    return value
