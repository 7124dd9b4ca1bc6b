"""QEMU's stream format: an Ethernet frame after its length, 4 bytes in network order (qemu: net/stream.c)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = 4
#: QEMU's own buffer for a frame; it sends none that is longer, and ends a connection that does.
LONGEST = 4096 + 65536
#: Bytes to read at once: several of the longest frames.
CHUNK = 256 * 1024


class Malformed(Exception):
    """A length that no frame has: whoever sent it does not speak this format."""


class Splitter:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Yield the frames that are complete now, each with its length in front.

        Raises:
            Malformed: after the frames before it.
        """
        if self._rest:
            data = self._rest + data
        view, at = memoryview(data), 0
        try:
            while at + HEADER <= len(data):
                size = int.from_bytes(view[at : at + HEADER])
                if not 0 < size <= LONGEST:
                    raise Malformed(f"a frame of {size} bytes")
                end = at + HEADER + size
                if end > len(data):
                    break
                yield view[at:end]
                at = end
        finally:
            self._rest = data[at:]
