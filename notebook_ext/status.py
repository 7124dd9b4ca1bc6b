"""The line about a job under its cell: while it takes its time, and when it has ended."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import TYPE_CHECKING

from magpie_local.view import words
from magpie_local.view.plain import one_line
from notebook_ext.frontend import Place

if TYPE_CHECKING:
    from magpie_local import Job

#: Seconds after which a job that has not ended gets a line; and between two of its changes.
_SLOW, _PACE = 2.0, 1.0
_STYLE = "color: var(--jp-content-font-color2, #666); font-size: var(--jp-code-font-size, 13px)"


class StatusLine:
    """Shows one line; in a terminal only the last one.

    Args:
        is_live: whether it may change while the job runs.
    """

    def __init__(self, *, is_live: bool, is_notebook: bool) -> None:
        self._is_live = is_live and is_notebook
        self._is_notebook = is_notebook
        self._place = Place()
        self._began = self._shown_at = time.monotonic()

    def look(self, job: Job) -> None:
        """Show how a job gets on, where that is worth it by now."""
        now = time.monotonic()
        if self._is_live and now - self._began >= _SLOW and now - self._shown_at >= _PACE:
            self._shown_at = now
            self._place.show(
                _bundle(job, f"job {job.id[: words.SHORT]} {words.state(job)} · {now - self._began:.0f} s")
            )

    def end(self, job: Job, *, below: bool) -> None:
        """Show how a job has ended.

        Args:
            job: as it is now.
            below: the cell's output has grown beyond the line, which then begins it.
        """
        if not self._is_notebook:
            print(end_line(job), file=sys.stderr)
            return
        if self._place.is_shown and below:
            self._place.show(_bundle(job, words.start_line(job)))
            self._place = Place()
        self._place.show(_bundle(job, end_line(job)))


def end_line(job: Job) -> str:
    """Return the line that closes a run, with what its VM ran on."""
    parts = [words.end_line(job), job.accelerator]
    return " · ".join(part for part in parts if part)


def _bundle(job: Job, text: str) -> dict[str, str]:
    line = one_line(f"{words.SIGNS[words.look(job)]} {text}", 500)
    return {"text/plain": line, "text/html": f'<div style="{_STYLE}"><bdi>{escape(line)}</bdi></div>'}
