"""The end of a job's output as lines: bounded memory, whatever the job writes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from magpie_local.api.models import LogChunk

#: Characters kept of one line.
WIDTH = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output, as it was written, terminal escapes included."""

    text: str
    #: stdout, stderr, or note (ours).
    stream: str = "stdout"
    #: How many characters of its end are left out.
    cut: int = 0


class LogTail:
    """Keeps the last lines of an output that comes in pieces.

    A line grows in its own place while other streams write. A carriage return begins a line anew, so that of a
    progress bar the last state is kept; what stood before it goes when its successor comes, and not sooner, so that
    nothing flickers.
    """

    def __init__(self, lines: int = 200, *, width: int = WIDTH) -> None:
        if lines < 1:
            raise InvalidInput("lines", lines, "at least one line is kept")
        self._most = lines
        self._width = width
        self._kept: deque[_Growing] = deque()
        #: By stream, the line that has not ended.
        self._open: dict[str, _Growing] = {}
        #: How many earlier lines are not kept.
        self.dropped = 0

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines kept, the oldest first."""
        return tuple(Line(line.text, line.stream, line.cut) for line in self._kept)

    def feed(self, chunk: LogChunk) -> None:
        """Take in a piece of output."""
        # Notes come with line feeds around them, as a plain log needs them: here each is a line anyway.
        text = chunk.text.strip("\n") + "\n" if chunk.stream == "note" else chunk.text
        pieces = text.split("\n")
        last = pieces.pop()
        # Of a large piece only its end can stay: the lines between are counted, and never made.
        skipped = max(0, len(pieces) - 1 - self._most)
        for number, piece in enumerate(pieces):
            if not 0 < number <= skipped:
                self._grow(chunk.stream, piece)
                del self._open[chunk.stream]
        self.dropped += skipped
        if last:
            self._grow(chunk.stream, last)

    def _grow(self, stream: str, text: str) -> None:
        line = self._open.get(stream)
        if line is None:
            line = self._open[stream] = _Growing(stream)
            self._keep(line)
        elif line.dropped:
            # It went on after others had pushed it out: it is one of the last lines again.
            line.dropped = False
            self.dropped -= 1
            self._keep(line)
        line.write(text, self._width)

    def _keep(self, line: _Growing) -> None:
        self._kept.append(line)
        if len(self._kept) > self._most:
            self._kept.popleft().dropped = True
            self.dropped += 1


class _Growing:
    """A line that may go on."""

    __slots__ = ("_returned", "cut", "dropped", "stream", "text")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.text = ""
        self.cut = 0
        self.dropped = False
        #: Whether a carriage return came last: the next character replaces all.
        self._returned = False

    def write(self, text: str, width: int) -> None:
        """Add text without line feeds."""
        if not text:
            return
        shown = text.rstrip("\r")
        if shown:
            _, returned, rest = shown.rpartition("\r")
            if returned or self._returned:
                self.text, self.cut = "", 0
            room = width - len(self.text)
            self.text += rest[:room]
            self.cut += max(0, len(rest) - room)
        self._returned = len(shown) < len(text) or (self._returned and not shown)
