"""The store ports: what any process may do, and what only the leader does. Every write is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.job import Attempt, Event, JobInputs, JobRecord, Outcome
    from magpie_local.domain.spec import JobSpec
    from magpie_local.domain.states import EventKind, ScriptState, Wish

    Detail = Mapping[str, str | int | float | bool | None]


class JobStore(Protocol):
    """What any process may do with jobs. Calls return after the commit: an id the caller has is never lost (I1)."""

    async def add(self, jobs: Sequence[tuple[JobId, JobSpec]]) -> list[JobRecord]:
        """Accept checked specs as queued jobs, all or none, in order; each with its `accepted` event."""
        ...

    async def get(self, job_id: JobId) -> JobRecord | None:
        """Return one job."""
        ...

    async def page(
        self, *, limit: int, offset: int = 0, states: Iterable[ScriptState] = (), status: str | None = None,
        before: int | None = None,
    ) -> list[JobRecord]:  # fmt: skip
        """Return jobs newest first: of the given states or of seed 000's `status`, or all where neither is given.

        `before` (a seq) pages through millions at the same cost; `offset` is for small steps.
        """
        ...

    async def inputs(self, job_id: JobId) -> JobInputs:
        """Return what a job brings along: its script byte for byte, its sealed secrets.

        Raises:
            JobNotFound: there is none.
        """
        ...

    async def story(self, job_id: JobId) -> list[Event]:
        """Return a job's events, oldest first."""
        ...

    async def request_stop(self, job_id: JobId) -> JobRecord | None:
        """Cancel a waiting job at once, or leave a durable request on an active one; nothing on a final one.

        Asking again changes nothing. Returns the job after it; None where there is none.
        """
        ...

    async def delete(self, job_id: JobId) -> bool:
        """Remove a settled job's rows, or leave a durable request (and a stop request) on one that is not settled.

        Returns whether the rows are gone now (also when there were none).
        """
        ...

    async def counts(self) -> Mapping[ScriptState, int]:
        """Return how many jobs that are not final there are, by state."""
        ...


class VmWishes(Protocol):
    """What any process may ask of VMs that are kept."""

    async def ask_vm(self, job_id: JobId, wish: Wish) -> JobRecord | None:
        """Leave a durable request to have a job's VM sleep, or wake; the newest one counts.

        Nothing where it is not kept, or sleeps as asked. Returns the job after it; None where there is none.
        """
        ...


class LeaderStore(Protocol):
    """What only the leader does. Writes raise LeadershipLost once another leader took over (F14, fencing)."""

    async def lead(self) -> None:
        """Take the leadership in the store; call only while holding the leader lock."""
        ...

    async def queue(self, limit: int) -> list[JobRecord]:
        """Return the oldest queued jobs, in order."""
        ...

    async def unsettled(self) -> list[tuple[JobRecord, Attempt]]:
        """Return every job with an attempt whose script or VM has not ended, with its newest attempt."""
        ...

    async def requested(self) -> list[JobRecord]:
        """Return jobs with a stop or delete request that is still to be carried out."""
        ...

    async def claim(
        self, job_id: JobId, *, boot_id: str, vm_id: VmId | None = None
    ) -> tuple[JobRecord, Attempt] | None:
        """Move a queued job to `starting` with a new attempt (nonce, VM id); None where it is queued no more.

        `vm_id` is that of a VM that waits in the pool; otherwise the attempt gets a fresh one.
        """
        ...

    async def record(
        self, attempt: Attempt, kind: EventKind, detail: Detail | None = None, *, accelerator: str | None = None,
        start: str | None = None,
    ) -> JobRecord | None:  # fmt: skip
        """Apply one event to the job of `attempt` by the tables of domain.states, and write it to the story.

        Sets the times that belong to the event. Returns the job after it; None where the job has a newer
        attempt or is gone.

        Raises:
            IllegalTransition: the tables do not allow it; nothing is written.
        """
        ...

    async def finish(self, attempt: Attempt, outcome: Outcome) -> JobRecord | None:
        """Write the script's final state, once: where it is final, nothing changes. Returns the job after it."""
        ...

    async def waiting(self, job_id: JobId | None, reason: str | None) -> None:
        """Say why the first queued job waits; clears it on every other."""
        ...
