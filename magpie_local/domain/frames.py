"""The wire format between host and guest; the image carries a copy of this file for the agent.

Log port (a file that the hypervisor writes): frames of

    length u32 | kind u8 | microseconds since the epoch u64 | payload        (little endian, payload at most 64 KiB)

Control port (a byte stream both ways): frames of

    length u32 | kind u8 | payload          kind 1: a JSON object (a message), kind 2: raw bytes that belong to
    the last message

Both readers are incremental and bounded: the other side is hostile (reliability.md F63, F86).
Only the standard library, and little of it: every import costs start time in an emulated guest.
"""

from __future__ import annotations

import json
import struct

MAX_PAYLOAD = 64 * 1024

STDOUT, STDERR, GAP, STARTED, EXIT, NOTE = 1, 2, 3, 4, 5, 6
LOG_KINDS = frozenset((STDOUT, STDERR, GAP, STARTED, EXIT, NOTE))
MESSAGE, BLOB = 1, 2

LOG_HEADER = struct.Struct("<IBQ")
CONTROL_HEADER = struct.Struct("<IB")
GAP_PAYLOAD = struct.Struct("<Q")


class FrameError(ValueError):
    """The bytes are no frames: a broken or hostile writer."""


def log_frame(kind: int, time_us: int, payload: bytes) -> bytes:
    """Return one frame for the log port."""
    return LOG_HEADER.pack(len(payload), kind, time_us) + payload


def message_frame(message: dict[str, object]) -> bytes:
    """Return one control frame with a JSON object; a large one becomes several frames' worth only through blobs."""
    payload = json.dumps(message).encode()
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
        max_message: largest JSON object taken, bytes (an environment fits into 8 MiB when every character is escaped).
    """

    def __init__(self, max_message: int = 8 * 1024 * 1024) -> None:
        self._buffer = bytearray()
        self._max_message = max_message

    def feed(self, data: bytes) -> list[dict[str, object] | bytes]:
        """Take bytes, return the whole messages (dict) and blobs (bytes) among them.

        Raises:
            FrameError: an impossible length or kind, or a message that is no JSON object.
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
            found.append(payload if kind == BLOB else _message(payload))
            at = end
        del buffer[:at]
        return found


def _message(payload: bytes) -> dict[str, object]:
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FrameError("control message is no JSON") from error
    if not isinstance(message, dict):
        raise FrameError("control message is no JSON object")
    return message
