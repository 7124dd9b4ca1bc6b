"""The log port: frames with output and marks, under a cap.

Output is written through at once until the head's share of the cap is used up. From then on it goes to a ring in
memory, which forgets its oldest frames; what it holds at the end is written as the tail, after a GAP frame that
tells how many bytes of output were dropped in between. So a flood costs its own guest time, and the host nothing.
"""

from __future__ import annotations

import os
import time

from magpie_local.domain import frames

#: Most memory that the tail may take in the guest.
MAX_TAIL = 32 * 1024 * 1024

_HEADER = frames.LOG_HEADER
#: One frame: two of the largest writes that a virtio port takes (32 KiB).
_FRAME = 64 * 1024


class Log:
    """Writes frames to the log port. The port may block: that is the back-pressure."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ring: Ring | None = None
        self.limit(2 * _FRAME)

    def limit(self, size: int) -> None:
        """Keep at most `size` bytes of output frames from now on: half of it as tail, as far as memory allows."""
        self._tail_size = min(size // 2, MAX_TAIL)
        self._head_left = size - self._tail_size
        # A tail of few frames would be empty half of the time.
        self._frame = memoryview(bytearray(min(_FRAME, max(2 * _HEADER.size, self._tail_size // 4))))
        self._body = self._frame[_HEADER.size :]

    def relay(self, kind: int, fd: int) -> int:
        """Move what one read of `fd` gives into the log; return the number of bytes, 0 at its end.

        The bytes are read behind the place of their header, and both are written at once: no copy is made.

        Raises:
            BlockingIOError: there is nothing to read now.
        """
        count = os.readv(fd, [self._body])
        if count:
            _HEADER.pack_into(self._frame, 0, count, kind, time.time_ns() // 1000)
            self._keep(self._frame[: _HEADER.size + count])
        return count

    def write(self, kind: int, data: bytes) -> None:
        """Put output into the log that was read before."""
        size = len(self._body)
        for at in range(0, len(data), size):
            part = data[at : at + size]
            _HEADER.pack_into(self._frame, 0, len(part), kind, time.time_ns() // 1000)
            self._body[: len(part)] = part
            self._keep(self._frame[: _HEADER.size + len(part)])

    def mark(self, kind: int, payload: bytes) -> None:
        """Write a frame that no cap touches."""
        self._write(memoryview(frames.log_frame(kind, time.time_ns() // 1000, payload[: frames.MAX_PAYLOAD])))

    def flush(self) -> None:
        """Write the gap and the tail; the output is complete."""
        if self._ring is None:
            return
        if self._ring.dropped:
            self.mark(frames.GAP, frames.GAP_PAYLOAD.pack(self._ring.dropped))
        for part in self._ring.parts():
            self._write(part)
        self._ring = None

    def _keep(self, frame: memoryview) -> None:
        if self._ring is None and len(frame) <= self._head_left:
            self._head_left -= len(frame)
            self._write(frame)
            return
        if self._ring is None:
            self._ring = Ring(self._tail_size)
        self._ring.push(frame)

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._fd, data) :]


class Ring:
    """The newest frames that fit into a fixed number of bytes, whatever their size."""

    def __init__(self, size: int) -> None:
        self._bytes = bytearray(size)
        self._view = memoryview(self._bytes)
        self._start = 0
        self._used = 0
        #: Bytes of output (headers not counted) forgotten so far.
        self.dropped = 0

    def push(self, frame: memoryview) -> None:
        """Add a frame, not larger than the ring; the oldest ones make room."""
        size = len(self._bytes)
        while self._used + len(frame) > size:
            self._forget()
        at = (self._start + self._used) % size
        first = min(len(frame), size - at)
        self._view[at : at + first] = frame[:first]
        self._view[: len(frame) - first] = frame[first:]
        self._used += len(frame)

    def parts(self) -> list[memoryview]:
        """Return the contents, oldest first."""
        end = self._start + self._used
        return [self._view[self._start : end], self._view[: max(0, end - len(self._bytes))]]

    def _forget(self) -> None:
        size = len(self._bytes)
        header = bytes(self._bytes[(self._start + i) % size] for i in range(4))
        length = int.from_bytes(header, "little")
        self.dropped += length
        self._start = (self._start + _HEADER.size + length) % size
        self._used -= _HEADER.size + length
