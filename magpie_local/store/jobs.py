"""The jobs port on SQLite: what any process may do."""

from __future__ import annotations

import heapq
import json
import sqlite3
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from magpie_local.domain.job import JobInputs, JobRecord, states_of
from magpie_local.domain.spec import UploadsSpec
from magpie_local.domain.states import EventKind, ScriptState, VmState
from magpie_local.errors import InvalidInput, JobNotFound
from magpie_local.store import networks, steps, workspaces
from magpie_local.store.rows import as_json, event_record, job_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import Event
    from magpie_local.domain.spec import JobSpec
    from magpie_local.domain.states import Wish
    from magpie_local.ports.clock import Clock
    from magpie_local.store.database import Database
    from magpie_local.store.session import Session

#: Above every seq, so that "no bound" is one query with the bounded case.
_NEWEST = 2**63 - 1

#: A query for seqs, newest first, along one index, and its values. Several are merged lazily: a single query over
#: several states would sort every job that has one of them, a million as likely as not.
_Walk = tuple[str, dict[str, object]]

#: The fields that a job's row takes from its spec as they are.
_ASKED = (
    "name",
    "description",
    "vcpus",
    "memory_mb",
    "timeout",
    "image",
    "log_limit",
    "isolation",
    "persistent",
    "idle_pause",
    "secret_names",
    "network",
    "ipv6_lease",
    "outputs",
    "outputs_limit",
)
#: The fields that a new job does not have yet.
_NOT_YET: dict[str, Any] = dict.fromkeys((
    "started_at", "finished_at", "exit_code", "reason", "message", "accelerator", "start", "waiting",
    "wish", "stop_requested_at", "delete_requested_at",
))  # fmt: skip


class SqliteJobs:
    """The port JobStore. Use it through `open_store`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, jobs: Sequence[tuple[JobId, JobSpec]]) -> list[JobRecord]:
        """Accept checked specs as queued jobs, all or none, in order.

        Raises:
            InvalidInput: a job of that id exists.
            StateError: none was accepted.
        """
        return await self._database.write(partial(_add, jobs=jobs, now=self._clock.now()))

    async def get(self, job_id: JobId) -> JobRecord | None:
        """Return one job."""
        return await self._database.read(partial(steps.find_job, job_id=job_id))

    async def page(
        self, *, limit: int, offset: int = 0, states: Iterable[ScriptState] = (), status: str | None = None,
        before: int | None = None,
    ) -> list[JobRecord]:  # fmt: skip
        """Return jobs newest first: of the given states or of seed 000's `status`, or all where neither is given."""
        bound = _NEWEST if before is None else before
        walks = _walks(states) if status is None else _walks_of(status)
        return await self._database.read(partial(_page, limit=limit, offset=offset, walks=walks, before=bound))

    async def inputs(self, job_id: JobId) -> JobInputs:
        """Return what a job brings along.

        Raises:
            JobNotFound: there is none.
        """
        return await self._database.read(partial(_inputs, job_id=job_id))

    async def story(self, job_id: JobId) -> list[Event]:
        """Return a job's events, oldest first; none where there is no such job."""
        return await self._database.read(partial(_story, job_id=job_id))

    async def request_stop(self, job_id: JobId) -> JobRecord | None:
        """Cancel a waiting job at once, or leave a durable request on an active one."""
        return await self._database.write(
            partial(_request_stop, job_id=job_id, now=self._clock.now()), vital=True
        )  # fmt: skip

    async def ask_vm(self, job_id: JobId, wish: Wish) -> JobRecord | None:
        """Leave a durable request to have a VM that is kept sleep, or wake; the newest one counts."""
        return await self._database.write(partial(_ask_vm, job_id=job_id, wish=wish, now=self._clock.now()), vital=True)

    async def delete(self, job_id: JobId) -> bool:
        """Remove a settled job's rows, or leave a durable request. Returns whether the rows are gone."""
        return await self._database.write(partial(_delete, job_id=job_id, now=self._clock.now()), vital=True)

    async def counts(self) -> Mapping[ScriptState, int]:
        """Return how many jobs that are not final there are, by state."""
        return await self._database.read(_counts)


def _add(session: Session, *, jobs: Sequence[tuple[JobId, JobSpec]], now: float) -> list[JobRecord]:
    return [_accept(session, job_id, spec, now) for job_id, spec in jobs]


def _accept(session: Session, job_id: JobId, spec: JobSpec, now: float) -> JobRecord:
    asked = {name: getattr(spec, name) for name in _ASKED}
    note = None
    asked["workspace_id"] = (spec.workspace_id or str(job_id)) if spec.stateful else None
    asked["address"], asked["address6"] = networks.place(session, job_id, spec, now)
    if spec.stateful:
        note = workspaces.ensure(session, asked["workspace_id"], spec, now)
    states: dict[str, Any] = {"script_state": ScriptState.QUEUED, "vm_state": VmState.NONE}
    try:
        row = {name: value for name, value in asked.items() if name != "secret_names"}
        row["outputs"] = json.dumps(spec.outputs)
        seq = session.value("add_job", id=job_id, created_at=now, **row, **states)
    except sqlite3.IntegrityError:
        raise InvalidInput("id", job_id, "a job of this id exists already") from None
    names = json.dumps(spec.secret_names)
    uploads = {"upload_size": spec.uploads and spec.uploads.size, "upload_crc": spec.uploads and spec.uploads.crc}
    session.run("add_inputs", job=seq, env=as_json(spec.env), secret_names=names, script=spec.script, **uploads)
    if spec.secrets is not None:
        session.run("add_secrets", job=seq, box=spec.secrets)
    session.run("add_event", job=seq, attempt=0, time=now, kind=EventKind.ACCEPTED, detail="{}")
    env = MappingProxyType(dict(spec.env))
    job = JobRecord(seq=seq, id=job_id, created_at=now, env=env, attempt=0, **asked, **states, **_NOT_YET)
    workspaces.tell_note(session, job, note, now=now)
    return job


def _walks(states: Iterable[ScriptState]) -> list[_Walk]:
    return [("newest_seqs_of_state", {"state": state}) for state in frozenset(states)]


def _walks_of(status: str) -> list[_Walk]:
    """Return the walks that lead to all jobs of a status; what a success is depends on whether the VM was to stay."""
    walks = _walks(state for state in states_of(status) if state is not ScriptState.SUCCEEDED)
    match status:
        case "completed":
            walks.append(("newest_seqs_of_plain_successes", {}))
        case "running":
            walks.append(("newest_seqs_of_persistent_successes", {"alive": True}))
        case "stopped":
            walks.append(("newest_seqs_of_persistent_successes", {"alive": False}))
    return walks


def _page(
    session: Session, *, limit: int, offset: int, walks: Sequence[_Walk], before: int
) -> list[JobRecord]:  # fmt: skip
    if walks:
        found = [
            (row["seq"] for row in session.rows(query, **values, before=before, limit=offset + limit))
            for query, values in walks
        ]
        seqs = list(islice(heapq.merge(*found, reverse=True), offset, offset + limit))
    else:
        seqs = [row["seq"] for row in session.rows("newest_seqs", before=before, limit=limit, offset=offset)]
    return [job_record(row) for row in session.rows("jobs_of_seqs", seqs=json.dumps(seqs))]


def _inputs(session: Session, *, job_id: JobId) -> JobInputs:
    row = session.row("get_inputs", id=job_id)
    if row is None:
        raise JobNotFound(f"There is no job {job_id}.")
    uploads = None
    if row["upload_size"] is not None:
        uploads = UploadsSpec(size=row["upload_size"], crc=row["upload_crc"])
    return JobInputs(script=bytes(row["script"]), secrets=row["secrets"], uploads=uploads)


def _story(session: Session, *, job_id: JobId) -> list[Event]:
    return [event_record(row) for row in session.rows("get_story", id=job_id)]


def _request_stop(session: Session, *, job_id: JobId, now: float) -> JobRecord | None:
    job = steps.find_job(session, job_id)
    return job and steps.ask_stop(session, job, now=now)


def _ask_vm(session: Session, *, job_id: JobId, wish: Wish, now: float) -> JobRecord | None:
    job = steps.find_job(session, job_id)
    return job and steps.ask_vm(session, job, wish, now=now)


def _delete(session: Session, *, job_id: JobId, now: float) -> bool:
    job = steps.find_job(session, job_id)
    return job is None or steps.ask_delete(session, job, now=now)


def _counts(session: Session) -> dict[ScriptState, int]:
    return {ScriptState(row["script_state"]): row["jobs"] for row in session.rows("count_unfinished")}
