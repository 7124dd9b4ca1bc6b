"""A job's output on the cell's own streams, as `%%bash` has it: in few messages, and not without end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from magpie_local.view.logtail import LogTail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from magpie_local import LogChunk

#: Changes of stream within one batch up to which their order is kept; beyond, each stream is written in one piece.
_RUNS = 8
#: Characters printed for each line that may be.
_WIDTH = 200
_STDERR_LINES = 10


class Printer:
    """Prints to stdout and stderr.

    Args:
        most: how many lines; what comes behind is only in the log.
        job_id: of what job, for the word on how to see the rest.
    """

    def __init__(self, most: int, job_id: str) -> None:
        self._lines, self._room, self._id = most, most * _WIDTH, job_id
        self._stderr = LogTail(_STDERR_LINES)
        #: Whether anything was printed, and since when nothing more is.
        self.has_printed = self._is_full = False

    def write(self, chunks: Iterable[LogChunk]) -> None:
        """Print a batch of output."""
        runs: list[tuple[str, str]] = []
        for chunk in chunks:
            if chunk.stream == "stderr":
                self._stderr.feed(chunk)
            stream = "stdout" if chunk.stream == "stdout" else "stderr"
            if runs and runs[-1][0] == stream:
                runs[-1] = stream, runs[-1][1] + chunk.text
            else:
                runs.append((stream, chunk.text))
        if len(runs) > _RUNS:
            runs = [(name, "".join(text for stream, text in runs if stream == name)) for name in ("stdout", "stderr")]
        for stream, text in runs:
            self._print(stream, text)

    def last_errors(self) -> list[str]:
        """Return the last lines of stderr."""
        return [line.text for line in self._stderr.lines]

    def _print(self, stream: str, text: str) -> None:
        if self._is_full or not text:
            return
        shown = self._fitting(text)
        _write(stream, shown)
        self.has_printed = True
        if len(shown) < len(text):
            self._is_full = True
            end = "" if shown.endswith("\n") else "\n"
            _write("stderr", f"{end}[more output goes to the log only: %magpie logs {self._id[:8]}]\n")

    def _fitting(self, text: str) -> str:
        """Return as much of `text` as there is room for, in whole lines as far as possible."""
        if len(text) > self._room or text.count("\n") > self._lines:
            text = "".join(text[: self._room].splitlines(keepends=True)[: self._lines])
        self._room -= len(text)
        self._lines -= text.count("\n")
        return text


def _write(stream: str, text: str) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()
