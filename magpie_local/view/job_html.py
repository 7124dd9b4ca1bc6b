"""A job as HTML and as text: its state, how it fares, and the end of its output."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB, format_bytes, format_seconds
from magpie_local.view import words
from magpie_local.view.log_html import log_html, log_text
from magpie_local.view.plain import one_line
from magpie_local.view.sparkline import sparkline
from magpie_local.view.style import COLOURED_JOB_STYLE, JOB_STYLE, framed, sign

if TYPE_CHECKING:
    from magpie_local.api.models import Job
    from magpie_local.view.log_html import LogHtml
    from magpie_local.view.snapshot import Snapshot

#: Characters shown of a name, and of a sentence.
_NAME, _SENTENCE = 80, 500


def job_html(snapshot: Snapshot) -> str:
    """Return a job as HTML that stands alone: no script, nothing loaded, at most 60 KB."""
    log = log_html(snapshot.lines)
    body = head_html(snapshot) + pane_html(snapshot.job, log) + foot_html(snapshot, log.count)
    return framed(COLOURED_JOB_STYLE if log.coloured else JOB_STYLE, body, label_html(snapshot.job))


def head_html(snapshot: Snapshot) -> str:
    """Return what stands above a job's output, for a frame with the views' style: state, facts, sentences, curves."""
    return _head(snapshot) + _facts(snapshot.job) + _sentences(snapshot) + _meters(snapshot)


def label_html(job: Job) -> str:
    """Return a job's name and state for readers of screens."""
    return _safe(f"job {job.name}: {words.state(job)}", _NAME)


def pane_html(job: Job, log: LogHtml) -> str:
    """Return a job's output in a pane that can be scrolled, at its end at first; nothing where there is none."""
    if not log.count:
        return ""
    label = _safe(f"output of job {job.name}", _NAME)
    # A list that is laid out upwards is scrolled to its end from the start, without a script.
    return f"<div class='ml' tabindex='0' role='region' aria-label='{label}'><pre>{log.html}</pre></div>\n"


def foot_html(snapshot: Snapshot, shown: int) -> str:
    """Return what stands below a job's output, of which `shown` lines are shown: how to see more, and the shell."""
    parts = []
    if share := _share(snapshot, shown):
        parts.append(f"<span>{share}: <code>{escape(_whole(snapshot.job))}</code></span>")
    elif not shown:
        parts.append("<span>no output</span>" if snapshot.job.is_final else "<span>no output yet</span>")
    if snapshot.ssh:
        parts.append(f"<span>shell: <code>{_safe(snapshot.ssh, _SENTENCE)}</code></span>")
    return f"<div class='mf'>{' '.join(parts)}</div>" if parts else ""


def job_text(snapshot: Snapshot) -> str:
    """Return the same as plain text."""
    job = snapshot.job
    shown = log_text(snapshot.lines)
    # The line that closes a run tells the cause already.
    sentences = [sentence for sentence in _told(snapshot) if not job.is_final or sentence != words.cause(job)]
    lines = [_headline(snapshot), *map(_plain, sentences)]
    if snapshot.ssh:
        lines.append(f"ssh: {_plain(snapshot.ssh)}")
    if share := _share(snapshot, len(shown)):
        lines.append(f"{share}: {_whole(job)}")
    return "\n".join([*lines, *shown])


def _headline(snapshot: Snapshot) -> str:
    job = snapshot.job
    if job.is_final:
        return f"{words.SIGNS[words.look(job)]} {_plain(words.end_line(job))}"
    took = "" if snapshot.seconds is None else f" · {format_seconds(snapshot.seconds)}"
    fares = "".join(f" · {name} {value}" for name, value, _ in _gauges(snapshot))
    line = f"job {job.id[: words.SHORT]} {words.state(job)} · {job.name}{took}{fares}"
    return f"{words.SIGNS[words.look(job)]} {_plain(line)}"


def _head(snapshot: Snapshot) -> str:
    job = snapshot.job
    took = "" if snapshot.seconds is None else format_seconds(snapshot.seconds)
    return (
        f"<div class='mh'>{state_html(job)} <span class='mn'><bdi>{_safe(job.name, _NAME)}</bdi></span> "
        f"<code>{_safe(job.id[: words.SHORT], _NAME)}</code> <span class='mt'>{took}</span></div>\n"
    )


def state_html(job: Job) -> str:
    """Return a job's state: its sign and its word, in its colour."""
    look = words.look(job)
    return f"<span class='mk m-{look}'>{sign(look)}{escape(words.state(job))}</span>"


def _facts(job: Job) -> str:
    facts = (
        None if job.exit_code is None else f"exit code {job.exit_code}",
        words.shape(job),
        f"image {job.image}",
        words.start(job),
        None if job.workspace_id is None else f"workspace {job.workspace_id}",
        None if job.network == "default" else f"network {job.network}",
        job.address,
        job.address6,
        None if job.attempt < 2 else f"attempt {job.attempt}",
    )
    told = " · ".join(f"<bdi>{_safe(fact, _NAME)}</bdi>" for fact in facts if fact)
    return f"<div class='md'>{told}</div>\n"


def _told(snapshot: Snapshot) -> list[str]:
    """Return the sentences below the facts: why it waits or ended, a warning, and the caller's own."""
    job = snapshot.job
    waits = None if job.waiting is None else f"waits: {job.waiting}"
    cause = words.cause(job) if job.is_final else None
    return [text for text in (waits, cause, words.accelerator_line(job), snapshot.note) if text]


def _sentences(snapshot: Snapshot) -> str:
    return "".join(f"<div class='mo'>{_safe(text, _SENTENCE)}</div>\n" for text in _told(snapshot))


def _gauges(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Return what is measured: its name, the last value in words, and its curve."""
    found = []
    if snapshot.cpu:
        value = f"{snapshot.cpu[-1]:.0%}".replace("%", " %")
        curve = sparkline(snapshot.cpu, label=f"CPU: {value} of one core", top=1.0)
        found.append(("CPU", value, curve))
    if snapshot.memory:
        value = format_bytes(snapshot.memory[-1])
        most = snapshot.job.memory_mb * MIB
        curve = sparkline(snapshot.memory, label=f"memory: {value}", top=most)
        found.append(("memory", value, curve))
    return found


def _meters(snapshot: Snapshot) -> str:
    gauges = "".join(
        f"<span class='mg'>{name} {curve} <b>{escape(value)}</b></span> " for name, value, curve in _gauges(snapshot)
    )
    return f"<div class='mm'>{gauges}</div>\n" if gauges else ""


def _share(snapshot: Snapshot, shown: int) -> str | None:
    """Return which part of the output is shown; None for all."""
    total = snapshot.dropped + len(snapshot.lines)
    return None if total == shown else f"the last {shown:,} of {total:,} lines; all of them"


def _whole(job: Job) -> str:
    """Return the command that shows the whole output."""
    return f"magpie logs {one_line(job.id[: words.SHORT], _NAME)}"


def _plain(text: str) -> str:
    return one_line(text, _SENTENCE)


def _safe(text: str, width: int) -> str:
    return escape(one_line(text, width))
