"""What the API returns: frozen snapshots of the moment they were read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from magpie_local.domain.job import status_of
from magpie_local.domain.sizes import format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.domain.job import JobRecord


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Job:
    """A job as it was when it was read (seed 000). Ask the client again for news."""

    id: str
    #: The same as `id`: seed 002's name for it.
    request_id: str
    name: str
    #: pending, running, completed, failed or stopped (seed 000's five words).
    status: str
    #: The script axis: queued, starting, running, succeeded, failed, timed_out, stopped, cancelled or lost.
    script_state: str
    #: The VM axis: none, booting, ready, paused, stopping or gone.
    vm_state: str
    vcpus: int
    memory_mb: int
    image: str
    #: Seconds, or None for no limit.
    timeout: float | None
    description: str
    #: How many attempts there were.
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: The script's own, exactly; 128+n after signal n, 124 after a timeout; None while unknown.
    exit_code: int | None
    #: Why it ended otherwise than by its script (a word), and the same in a sentence.
    reason: str | None
    message: str | None
    #: kvm or tcg; only kvm is a security boundary.
    accelerator: str | None
    #: Why it is pending, where the scheduler holds it back.
    waiting: str | None
    stateful: bool
    persistent: bool
    env: Mapping[str, str] = field(repr=False)

    def __repr__(self) -> str:
        ended = "" if self.exit_code is None else f" exit {self.exit_code}"
        lasted = "" if self.duration is None else f" {format_seconds(self.duration)}"
        return f"<Job {self.id[:8]} {self.name!r} {self.status}{ended}{lasted}>"

    @property
    def is_final(self) -> bool:
        """Whether the script's state never changes again."""
        return self.status in ("completed", "failed", "stopped")

    @property
    def success(self) -> bool:
        """Whether the script exited with 0."""
        return self.status == "completed"

    @property
    def duration(self) -> float | None:
        """Seconds that the script ran; None before its end, or when it never ran."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    def to_json(self) -> dict[str, object]:
        """Return plain values; of the environment only the names, which is all that a listing should show."""
        times = {"created_at": self.created_at, "started_at": self.started_at, "finished_at": self.finished_at}
        plain = (
            "id", "request_id", "name", "status", "script_state", "vm_state", "vcpus", "memory_mb", "image", "timeout",
            "description", "attempt", "exit_code", "reason", "message", "accelerator", "waiting", "stateful",
            "persistent",
        )  # fmt: skip
        return (
            {name: getattr(self, name) for name in plain}
            | {name: time and time.isoformat() for name, time in times.items()}
            | {"duration": self.duration, "env": sorted(self.env)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The answer to stop and delete."""

    id: str
    #: The job's status after it, or `deleted`.
    status: str

    def __str__(self) -> str:
        return f"job {self.id}: {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """A piece of a job's output, as the script wrote it."""

    #: Seconds since the epoch, by the guest's clock.
    time: float
    #: stdout, stderr, or note (ours: dropped output, trouble of the agent).
    stream: str
    #: The bytes exactly.
    data: bytes = field(repr=False)
    #: The same as text; invalid UTF-8 becomes U+FFFD, characters split between chunks are whole in the later one.
    text: str


def job_of(record: JobRecord) -> Job:
    """Return the public view of a stored job."""
    return Job(
        id=record.id,
        request_id=record.id,
        name=record.name,
        status=status_of(record.script_state),
        script_state=record.script_state.value,
        vm_state=record.vm_state.value,
        vcpus=record.vcpus,
        memory_mb=record.memory_mb,
        image=record.image,
        timeout=record.timeout,
        description=record.description,
        attempt=record.attempt,
        created_at=_time(record.created_at),
        started_at=_maybe(record.started_at),
        finished_at=_maybe(record.finished_at),
        exit_code=record.exit_code,
        reason=record.reason,
        message=record.message,
        accelerator=record.accelerator,
        waiting=record.waiting if record.is_waiting else None,
        stateful=False,
        persistent=False,
        env=record.env,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _maybe(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
