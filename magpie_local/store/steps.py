"""The steps of a job, as functions inside a transaction: the tables of domain.states decide, rows and story follow.

A job is read whole, replaced in memory and saved whole; `BEGIN IMMEDIATE` around it makes that safe.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from magpie_local.domain.states import FULFILS, EventKind, ScriptState, VmState, Wish, next_states
from magpie_local.store.rows import as_json, attempt_record, event_record, job_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.ports.store import Detail
    from magpie_local.store.session import Session

_JOB_COLUMNS = (
    "seq", "script_state", "vm_state", "attempt", "started_at", "finished_at", "exit_code", "reason", "message",
    "accelerator", "start", "waiting", "wish", "stop_requested_at", "delete_requested_at",
)  # fmt: skip
_ATTEMPT_COLUMNS = (
    "vm_id", "vm_started_at", "ready_at", "started_at", "ended_at", "gone_at", "accelerator", "intended",
)  # fmt: skip


def find_job(session: Session, job_id: JobId) -> JobRecord | None:
    """Return one job."""
    row = session.row("get_job", id=job_id)
    return None if row is None else job_record(row)


def find_attempt(session: Session, job_id: JobId, number: int) -> Attempt | None:
    """Return one attempt."""
    row = session.row("get_attempt", job_id=job_id, number=number)
    return None if row is None else attempt_record(row)


def step(
    session: Session, job: JobRecord, kind: EventKind, *, now: float, detail: Detail | None = None,
    goal: ScriptState | None = None, **changes: Any,
) -> JobRecord:  # fmt: skip
    """Apply one event to a job, together with `changes` to its fields. Returns the job after it.

    Raises:
        IllegalTransition: the tables do not allow it; it carries the story.
    """
    script, vm = next_states(job.script_state, job.vm_state, kind, goal=goal, story=_story(session, job.id))
    after = replace(job, script_state=script, vm_state=vm)
    if script is not ScriptState.QUEUED:
        after = replace(after, waiting=None)
    if script.is_final and not job.script_state.is_final:
        after = replace(after, finished_at=now)
        session.run("forget_secrets", job=job.seq)
    if after.wish in FULFILS.get(kind, ()):
        after = replace(after, wish=None)
    after = replace(after, **changes)
    if after != job:
        save_job(session, after)
    tell(session, after, kind, now=now, detail=detail)
    return after


def ask_stop(session: Session, job: JobRecord, *, now: float) -> JobRecord:
    """Cancel a waiting job; leave a request on an active one, once; nothing on a final one (F67)."""
    if job.is_waiting:
        return step(session, job, EventKind.CANCELLED, now=now)
    if (job.script_state.is_final and not job.is_kept) or job.stop_requested_at is not None:
        return job
    return step(session, job, EventKind.STOP_REQUESTED, now=now, stop_requested_at=now)


def ask_vm(session: Session, job: JobRecord, wish: Wish, *, now: float) -> JobRecord:
    """Leave a request to have a job's VM sleep, or wake; nothing on one that is not kept, or that sleeps already."""
    asleep = job.vm_state is VmState.ASLEEP
    if not job.is_kept or job.wish is wish or (wish is Wish.SLEEP and asleep):
        return job
    kind = EventKind.SLEEP_REQUESTED if wish is Wish.SLEEP else EventKind.WAKE_REQUESTED
    return step(session, job, kind, now=now, wish=wish)


def ask_delete(session: Session, job: JobRecord, *, now: float) -> bool:
    """Remove a settled job's rows; stop one that is not settled, and leave a request. Returns whether they are gone."""
    job = ask_stop(session, job, now=now)
    if job.is_settled:
        session.run("delete_job", seq=job.seq)
        return True
    if job.delete_requested_at is None:
        step(session, job, EventKind.DELETE_REQUESTED, now=now, delete_requested_at=now)
    return False


def tell(session: Session, job: JobRecord, kind: EventKind, *, now: float, detail: Detail | None = None) -> None:
    """Add a line to the job's story."""
    session.run("add_event", job=job.seq, attempt=job.attempt, time=now, kind=kind, detail=as_json(detail or {}))


def save_job(session: Session, job: JobRecord) -> None:
    """Write what a step may change."""
    session.run("save_job", **{name: getattr(job, name) for name in _JOB_COLUMNS})


def add_attempt(session: Session, job: JobRecord, attempt: Attempt) -> None:
    """Store a new attempt of a job."""
    session.run(
        "add_attempt", job=job.seq, number=attempt.number, vm_id=attempt.vm_id, nonce=attempt.nonce,
        boot_id=attempt.boot_id, claimed_at=attempt.claimed_at,
    )  # fmt: skip


def save_attempt(session: Session, attempt: Attempt) -> None:
    """Write what a step may change."""
    session.run("save_attempt", **{name: getattr(attempt, name) for name in _ATTEMPT_COLUMNS})


def _story(session: Session, job_id: JobId) -> Iterator[str]:
    # A generator: nothing is read unless the step is illegal and its error tells the story.
    for row in session.rows("get_story", id=job_id):
        yield str(event_record(row))
