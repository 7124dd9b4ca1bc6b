"""The wire format between host and guest; the image carries a copy of this file for the agent.

Log port (a file that the hypervisor writes): frames of

    length u32 | kind u8 | microseconds since the epoch u64 | payload      (little endian, payload at most 64 KiB)

EXIT ends the output. Of a persistent guest, which goes on, at most one HALT follows: it was told to end, and did;
a message with the attempt's `nonce` (empty before an order) and `workspace`: clean, busy or none (domain.exitrecord).

Control port (a byte stream both ways): frames of

    length u32 | kind u8 | payload      kind 1: a message, kind 2: raw bytes that belong to the last message

Messages, and the payloads of marks in the log, are items of

    kind u8 | key length u8 | value length u32 | key | value

where the kind is `s` text in UTF-8, `i` and `d` a number in digits, `t` true, `f` false, `n` none, `m` a message
again, and `l` a list: items whose keys are empty. JSON would do
as well, but its parser costs an emulated guest a third of a second at each boot (`re`, `enum` and `functools` come
along).

All readers are bounded: the other side is hostile (reliability.md F63, F86). Only little of the standard library is
used,
because every import costs start time.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PAYLOAD = 64 * 1024

STDOUT, STDERR, GAP, STARTED, EXIT, NOTE, HALT = 1, 2, 3, 4, 5, 6, 7
LOG_KINDS = frozenset((STDOUT, STDERR, GAP, STARTED, EXIT, NOTE, HALT))
MESSAGE, BLOB = 1, 2

LOG_HEADER = struct.Struct("<IBQ")
CONTROL_HEADER = struct.Struct("<IB")
GAP_PAYLOAD = struct.Struct("<Q")

_ITEM = struct.Struct("<cBI")
_CONSTANTS: dict[bytes, bool | None] = {b"t": True, b"f": False, b"n": None}
_MAX_NUMBER = 40
_MAX_DEPTH = 3


class FrameError(ValueError):
    """The bytes are no frames: a broken or hostile writer."""


def log_frame(kind: int, time_us: int, payload: bytes) -> bytes:
    """Return one frame for the log port."""
    return LOG_HEADER.pack(len(payload), kind, time_us) + payload


def message_frame(message: Mapping[str, object]) -> bytes:
    """Return one control frame with a message; what is large goes into blobs behind it."""
    payload = pack(message)
    return CONTROL_HEADER.pack(len(payload), MESSAGE) + payload


def blob_frames(data: bytes) -> list[bytes]:
    """Return `data` as control frames of at most 64 KiB each."""
    view = memoryview(data)
    chunks = (view[at : at + MAX_PAYLOAD] for at in range(0, len(view), MAX_PAYLOAD))
    return [CONTROL_HEADER.pack(len(chunk), BLOB) + chunk for chunk in chunks]


class LogReader:
    """Incremental reader of log frames.

    `consumed` counts the bytes of whole frames handed out so far: the place to go on from after a reopen.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.consumed = 0

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take bytes, return the whole frames among them as (kind, time in microseconds, payload).

        Raises:
            FrameError: an impossible length or kind.
        """
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, int, bytes]] = []
        at = 0
        while len(buffer) - at >= LOG_HEADER.size:
            length, kind, time_us = LOG_HEADER.unpack_from(buffer, at)
            if length > MAX_PAYLOAD or kind not in LOG_KINDS:
                raise FrameError(f"log frame of kind {kind} and length {length} at {self.consumed + at}")
            end = at + LOG_HEADER.size + length
            if end > len(buffer):
                break
            frames.append((kind, time_us, bytes(buffer[at + LOG_HEADER.size : end])))
            at = end
        del buffer[:at]
        self.consumed += at
        return frames


class ControlReader:
    """Incremental reader of control frames.

    Args:
        max_message: largest message taken, bytes.
    """

    def __init__(self, max_message: int = 8 * 1024 * 1024) -> None:
        self._buffer = bytearray()
        self._max_message = max_message

    def feed(self, data: bytes) -> list[dict[str, object] | bytes]:
        """Take bytes, return the whole messages (dict) and blobs (bytes) among them.

        Raises:
            FrameError: an impossible length or kind, or a malformed message.
        """
        buffer = self._buffer
        buffer += data
        found: list[dict[str, object] | bytes] = []
        at = 0
        while len(buffer) - at >= CONTROL_HEADER.size:
            length, kind = CONTROL_HEADER.unpack_from(buffer, at)
            if length > (self._max_message if kind == MESSAGE else MAX_PAYLOAD) or kind not in (MESSAGE, BLOB):
                raise FrameError(f"control frame of kind {kind} and length {length}")
            end = at + CONTROL_HEADER.size + length
            if end > len(buffer):
                break
            payload = bytes(buffer[at + CONTROL_HEADER.size : end])
            found.append(payload if kind == BLOB else unpack(payload))
            at = end
        del buffer[:at]
        return found


def pack(message: Mapping[str, object]) -> bytes:
    """Return a message as bytes.

    Raises:
        TypeError: a value is none of the kinds.
    """
    return b"".join(_item(key, value) for key, value in message.items())


def unpack(payload: bytes, depth: int = 0) -> dict[str, object]:
    """Return the message in `payload`.

    Raises:
        FrameError: it is none.
    """
    message: dict[str, object] = {}
    for key, value in _items(payload, depth):
        if key in message:
            raise FrameError("message with a key twice")
        message[key] = value
    return message


def _item(key: str, value: object) -> bytes:
    kind, data = _packed(value)
    name = key.encode()
    return _ITEM.pack(kind, len(name), len(data)) + name + data


def _items(payload: bytes, depth: int) -> Iterator[tuple[str, object]]:
    if depth > _MAX_DEPTH:
        raise FrameError("message too deep")
    at = 0
    try:
        while at < len(payload):
            kind, name_size, size = _ITEM.unpack_from(payload, at)
            start = at + _ITEM.size + name_size
            at = start + size
            key = payload[start - name_size : start].decode()
            if at > len(payload):
                raise FrameError("message cut short")
            yield key, _unpacked(kind, payload[start:at], depth)
    except (struct.error, ValueError) as error:
        raise FrameError(f"no message: {error}") from None


def _packed(value: object) -> tuple[bytes, bytes]:
    for one, constant in _CONSTANTS.items():
        if value is constant:
            return one, b""
    if isinstance(value, str):
        return b"s", value.encode()
    if isinstance(value, dict):
        return b"m", pack(value)
    if isinstance(value, (list, tuple)):
        return b"l", b"".join(_item("", one) for one in value)
    if isinstance(value, (int, float)):
        return b"i" if isinstance(value, int) else b"d", repr(value).encode()
    raise TypeError(f"a message can't carry {value!r}")


def _unpacked(kind: bytes, data: bytes, depth: int) -> object:
    if kind == b"s":
        return data.decode()
    if kind == b"m":
        return unpack(data, depth + 1)
    if kind == b"l":
        return [value for _, value in _items(data, depth + 1)]
    if kind in b"id" and len(data) <= _MAX_NUMBER:
        return int(data) if kind == b"i" else float(data)
    if kind in _CONSTANTS and not data:
        return _CONSTANTS[kind]
    raise FrameError(f"message item of kind {kind!r} and size {len(data)}")
