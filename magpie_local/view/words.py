"""How jobs are told in words: one source for the command line, notebooks and pages."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB, format_bytes, format_seconds

if TYPE_CHECKING:
    from datetime import datetime

    from magpie_local.api.models import Job

#: As many characters of an id as tell jobs apart in a list.
SHORT = 8

#: How a VM came to be.
STARTS = {"cold": "booted", "fork": "forked from a template", "pool": "started from the pool"}
#: What the status alone does not tell: `stopped` may be a timeout, `failed` a loss.
_FINER = {"timed_out": "timed out", "cancelled": "cancelled before it started", "lost": "lost"}


class Look(StrEnum):
    """The kinds of states that a view tells apart, each by a word, a sign and a colour."""

    WAITS = "waits"
    RUNS = "runs"
    WELL = "well"
    BADLY = "badly"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


SIGNS = {
    Look.WAITS: "○", Look.RUNS: "●", Look.WELL: "✓", Look.BADLY: "✗", Look.STOPPED: "■", Look.UNKNOWN: "?",
}  # fmt: skip
_BY_STATUS = {"pending": Look.WAITS, "running": Look.RUNS, "completed": Look.WELL, "failed": Look.BADLY}
_BY_SCRIPT = {"timed_out": Look.BADLY, "lost": Look.UNKNOWN}


def look(job: Job) -> Look:
    """Return what kind of state a job is in."""
    return _BY_SCRIPT.get(job.script_state) or _BY_STATUS.get(job.status, Look.STOPPED)


def state(job: Job) -> str:
    """Return a job's state in one or two words: `running`, `starting`, `completed`, `timed out`."""
    if job.script_state in ("starting", "cancelled"):
        return job.script_state
    return finer_state(job) or job.status


def finer_state(job: Job) -> str | None:
    """Return what the status alone does not tell: `stopped` may be a timeout, `failed` a loss."""
    if job.vm_state == "asleep":
        return job.vm_state
    return _FINER.get(job.script_state)


def start_line(job: Job) -> str:
    """Return the line that opens a run."""
    return f"job {job.id} · {job.name} · {shape(job)} · image {job.image}"


def accelerator_line(job: Job) -> str | None:
    """Return a warning where the job's VM is emulated."""
    if job.accelerator != "tcg":
        return None
    return "accelerator: emulation, for lack of working hardware virtualization: slower, and no security boundary"


def end_line(job: Job) -> str:
    """Return the line that closes a run."""
    began = start(job)
    parts = (
        f"job {job.id[:SHORT]} {job.status}",
        None if job.exit_code is None else f"exit code {job.exit_code}",
        None if job.duration is None else format_seconds(job.duration),
        began,
        finer_state(job),
        cause(job),
    )
    return " · ".join(part for part in parts if part)


def cause(job: Job) -> str | None:
    """Return why a job ended as it did, or None where its exit code tells it."""
    return (job.message or job.reason) if job.reason or job.exit_code is None else None


def start(job: Job) -> str | None:
    """Return how the job's VM came to be; None before that."""
    return None if job.start is None else STARTS.get(job.start, job.start)


def shape(job: Job) -> str:
    """Return the size of the job's VM."""
    return f"{job.vcpus} vCPU{'s' if job.vcpus != 1 else ''} · {format_bytes(job.memory_mb * MIB)}"


def moment(time: datetime | None) -> str:
    """Return a time of day here, to the second; a dash for none."""
    return "-" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
