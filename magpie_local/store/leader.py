"""The leader port on SQLite. Every write checks in its own transaction that this process still leads (F14)."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.job import Attempt
from magpie_local.domain.states import SCRIPT_TABLE, EventKind, ScriptState
from magpie_local.errors import LeadershipLost
from magpie_local.store import steps
from magpie_local.store.rows import job_record
from magpie_local.store.workspaces import SqliteWorkspaceUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.job import JobRecord, Outcome
    from magpie_local.ports.clock import Clock
    from magpie_local.ports.store import Detail
    from magpie_local.store.database import Database
    from magpie_local.store.session import Session

T = TypeVar("T")


class SqliteLeader:
    """The port LeaderStore. Use it through `open_store`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._token = secrets.token_hex(16)
        self.workspaces = SqliteWorkspaceUse(self._write, clock)

    async def lead(self) -> None:
        """Take the leadership in the store: from here on no other process's leader can write."""
        await self._database.write(
            lambda session: session.run("set_meta", key="leader", value=self._token), vital=True
        )  # fmt: skip

    async def queue(self, limit: int) -> list[JobRecord]:
        """Return the oldest queued jobs, in order."""
        return await self._jobs("oldest_queued", limit=limit)

    async def unsettled(self) -> list[tuple[JobRecord, Attempt]]:
        """Return every job with an attempt whose script or VM has not ended, with its newest attempt."""
        return await self._database.read(_unsettled)

    async def requested(self) -> list[JobRecord]:
        """Return jobs with a stop or delete request that is still to be carried out."""
        return await self._jobs("requested_jobs")

    async def claim(
        self, job_id: JobId, *, boot_id: str, vm_id: VmId | None = None
    ) -> tuple[JobRecord, Attempt] | None:
        """Move a queued job to `starting` with a new attempt; None where it is queued no more."""
        work = partial(_claim, job_id=job_id, boot_id=boot_id, vm_id=vm_id, now=self._clock.now())
        return await self._write(work, vital=False)

    async def record(
        self, attempt: Attempt, kind: EventKind, detail: Detail | None = None, *, accelerator: str | None = None,
        start: str | None = None,
    ) -> JobRecord | None:  # fmt: skip
        """Apply one event to the attempt's job, set the times that belong to it, and write it to the story.

        STARTED takes its time from `detail["at"]` where it has one. A requeued job that is asked to stop is cancelled.
        """
        now = self._clock.now()
        return await self._write(
            partial(
                _record, attempt=attempt, kind=kind, detail=detail or {}, accelerator=accelerator, start=start, now=now
            )
        )

    async def finish(self, attempt: Attempt, outcome: Outcome) -> JobRecord | None:
        """Write the script's final state, once. Steps that the leader did not live to see are made up for."""
        return await self._write(partial(_finish, attempt=attempt, outcome=outcome, now=self._clock.now()))

    async def waiting(self, job_id: JobId | None, reason: str | None) -> None:
        """Say why the first queued job waits; clears it on every other."""
        await self._write(partial(_waiting, job_id=job_id, reason=reason), vital=False)

    async def _jobs(self, query: str, **values: object) -> list[JobRecord]:
        return await self._database.read(lambda session: [job_record(row) for row in session.rows(query, **values)])

    async def _write(self, work: Callable[[Session], T], *, vital: bool = True) -> T:
        # Vital but for new starts: a leader that can't write can neither end a job nor let go of a VM.
        return await self._database.write(partial(self._fenced, work=work), vital=vital)

    def _fenced(self, session: Session, *, work: Callable[[Session], T]) -> T:
        if session.value("get_meta", key="leader") != self._token:
            raise LeadershipLost
        return work(session)


def _unsettled(session: Session) -> list[tuple[JobRecord, Attempt]]:
    pairs = []
    for row in session.rows("unsettled_jobs"):
        job = job_record(row)
        if attempt := steps.find_attempt(session, job.id, job.attempt):
            pairs.append((job, attempt))
    return pairs


def _claim(
    session: Session, *, job_id: JobId, boot_id: str, vm_id: VmId | None, now: float
) -> tuple[JobRecord, Attempt] | None:
    job = steps.find_job(session, job_id)
    if job is None or job.script_state is not ScriptState.QUEUED:
        return None
    attempt = Attempt(
        job_id=job_id, number=job.attempt + 1, vm_id=vm_id or new_vm_id(), nonce=secrets.token_hex(16),
        boot_id=boot_id, claimed_at=now,
    )  # fmt: skip
    claimed = steps.step(session, job, EventKind.CLAIMED, now=now, attempt=attempt.number)
    steps.add_attempt(session, claimed, attempt)
    return claimed, attempt


def _record(
    session: Session, *, attempt: Attempt, kind: EventKind, detail: Detail, accelerator: str | None, start: str | None,
    now: float,
) -> JobRecord | None:  # fmt: skip
    found = _current(session, attempt)
    if found is None:
        return None
    job, attempt = found
    attempt = _timed(attempt, kind, detail, now)
    changes: dict[str, Any] = {"started_at": attempt.started_at} if kind is EventKind.STARTED else {}
    if accelerator is not None:
        attempt = replace(attempt, accelerator=accelerator)
        changes["accelerator"] = accelerator
    if start is not None:
        changes["start"] = start
    steps.save_attempt(session, attempt)
    job = steps.step(session, job, kind, now=now, detail=detail, **changes)
    if kind is EventKind.REQUEUED and job.stop_requested_at is not None:
        job = steps.step(session, job, EventKind.CANCELLED, now=now)
    return job


def _finish(session: Session, *, attempt: Attempt, outcome: Outcome, now: float) -> JobRecord | None:
    found = _current(session, attempt)
    if found is None:
        return None
    job, attempt = found
    if job.script_state.is_final:
        return job
    started_at = outcome.started_at if outcome.started_at is not None else job.started_at
    if job.script_state is ScriptState.STARTING and _had_started(outcome):
        started_at = now if started_at is None else started_at
        job = steps.step(session, job, EventKind.STARTED, now=now)
    # The host's and the guest's clock may disagree; a duration is never negative (F16).
    ended_at = max(outcome.ended_at or now, started_at or 0.0)
    steps.save_attempt(session, replace(attempt, started_at=started_at, ended_at=ended_at))
    detail: Detail = {"exit_code": outcome.exit_code, "reason": outcome.reason}
    return steps.step(
        session, job, outcome.kind, now=now, goal=outcome.state, detail=detail,
        started_at=started_at, finished_at=ended_at,
        exit_code=outcome.exit_code, reason=outcome.reason, message=outcome.message,
    )  # fmt: skip


def _waiting(session: Session, *, job_id: JobId | None, reason: str | None) -> None:
    session.run("clear_waiting", id=job_id)
    session.run("set_waiting", id=job_id, reason=reason)


def _current(session: Session, attempt: Attempt) -> tuple[JobRecord, Attempt] | None:
    """Return the job and the attempt as stored, unless the job is gone or has a newer attempt."""
    job = steps.find_job(session, attempt.job_id)
    stored = steps.find_attempt(session, attempt.job_id, attempt.number)
    if job is None or stored is None or job.attempt != stored.number:
        return None
    return job, stored


def _timed(attempt: Attempt, kind: EventKind, detail: Detail, now: float) -> Attempt:
    match kind:
        case EventKind.VM_BOOTING:
            return replace(attempt, vm_started_at=now, intended=True)
        case EventKind.VM_READY:
            return replace(attempt, ready_at=now)
        case EventKind.STARTED:
            at = detail.get("at")
            return replace(attempt, started_at=float(at) if isinstance(at, (int, float)) else now)
        case EventKind.VM_GONE:
            return replace(attempt, gone_at=now)
    return attempt


def _had_started(outcome: Outcome) -> bool:
    """Return whether the script must have run: the outcome says when, or is one that only a running script has."""
    return outcome.started_at is not None or (ScriptState.STARTING, outcome.kind) not in SCRIPT_TABLE
