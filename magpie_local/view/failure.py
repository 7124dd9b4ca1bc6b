"""What a job that did not succeed tells in the cell that ran it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.sizes import format_seconds
from magpie_local.view import words
from magpie_local.view.ansi import ansi_to_text
from magpie_local.view.plain import cut, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.api.models import Job

#: Lines shown of stderr, characters of each, and of the sentences.
LINES, WIDTH, _SENTENCE = 10, 200, 500


def failure_text(job: Job, stderr_lines: Sequence[str]) -> str:
    """Return why a job failed: how it ended, its last ten lines of stderr, and how to see the rest.

    No traceback, no terminal escapes: it fits under a cell, and is safe in a terminal.
    """
    shown = [_line(line) for line in stderr_lines[-LINES:]]
    parts = [_ending(job)]
    if shown:
        parts += [f"last {len(shown)} lines of stderr:" if len(shown) > 1 else "its stderr ended with:", *shown]
    elif job.exit_code is not None:
        parts.append("it wrote nothing to stderr")
    parts.append(f"the whole output: %magpie logs {one_line(job.id[: words.SHORT], 80)}")
    return "\n".join(parts)


def _ending(job: Job) -> str:
    code = None if job.exit_code is None else f"exit code {job.exit_code}"
    took = None if job.duration is None else f"after {format_seconds(job.duration)}"
    known = " ".join(part for part in (code, took) if part)
    name = f"job {job.id[: words.SHORT]} ({one_line(job.name, 60)}) {words.state(job)}"
    sentence = ": ".join(part for part in (name, known, words.cause(job)) if part)
    return one_line(sentence, _SENTENCE)


def _line(line: str) -> str:
    return "    " + cut(ansi_to_text(line.rstrip("\r\n")).replace("\n", " "), WIDTH)
