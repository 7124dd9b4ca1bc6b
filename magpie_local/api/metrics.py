"""CPU and memory of jobs' VMs, as coroutines on the engine's loop.

Whoever asks reads the kernel's counters: nobody samples while nobody looks. The samples that this process has taken are
kept for a while, so that a plot that is drawn anew begins with its past.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from magpie_local.api.models import Job, job_of
from magpie_local.domain.ids import parse_job_id
from magpie_local.domain.metrics import Reading, Sample, sample_of
from magpie_local.errors import InvalidInput, JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.engine import Engine

#: Seconds between two samples, at least: the kernel counts CPU time in ticks of 10 ms.
SHORTEST, LONGEST = 0.1, 3600.0
#: Samples kept of a job: five minutes of them, one a second. And of how many jobs.
KEPT, _JOBS = 300, 100
#: How often a follower looks whether the job has ended, should a ring be lost, seconds.
_LOOK = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUsage:
    """A job, and what its VM takes of this machine."""

    job: Job
    #: A new sample; None where the job has no VM now.
    sample: Sample | None

    def to_json(self) -> dict[str, object]:
        """Return plain values: those of the job, and `sample`."""
        return {**self.job.to_json(), "sample": self.sample and self.sample.to_json()}


class _Point(NamedTuple):
    vm_id: VmId
    reading: Reading
    sample: Sample


class MetricsService:
    """The verbs.

    Args:
        engine: the engine of this process.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: By job, the one looked at last at the end.
        self._kept: OrderedDict[JobId, deque[_Point]] = OrderedDict()

    async def samples(self, job_id: str) -> tuple[Sample, ...]:
        """Return the samples of a job that this process has taken lately, and with them one of now."""
        record = await self._record(parse_job_id(job_id))
        vms = {record.id: vm_id} if (vm_id := await self._vm(record)) else {}
        await self._sample(vms)
        return tuple(point.sample for point in self._kept.get(record.id, ()))

    async def usage(self, job_ids: Sequence[str] | None = None) -> list[JobUsage]:
        """Return these jobs, or all that have a VM, each with a new sample; all VMs are read in one go."""
        attempts = await self._engine.ports.leader.unsettled()
        vms = {job.id: attempt.vm_id for job, attempt in attempts if job.vm_state.is_alive}
        if job_ids is None:
            records = [job for job, _ in attempts if job.id in vms]
        else:
            records = [await self._record(parse_job_id(job_id)) for job_id in job_ids]
        samples = await self._sample({job.id: vms[job.id] for job in records if job.id in vms})
        return [JobUsage(job=job_of(job), sample=samples.get(job.id)) for job in records]

    async def follow(self, job_id: str, interval: float) -> AsyncGenerator[list[Sample], None]:
        """Yield new samples, in lists of one, from the VM's start to its end; waits for a VM that is still to come."""
        check_interval(interval)
        record: JobRecord | None = await self._record(parse_job_id(job_id))
        clock = self._engine.ports.clock
        attempt = 0
        vm_id: VmId | None = None
        before: Reading | None = None
        while record is not None and not record.is_settled:
            if vm_id is None or record.attempt != attempt:
                attempt, vm_id = record.attempt, await self._vm(record)
                before = None if vm_id is None else self._last(record.id, vm_id)
            reading = None if vm_id is None else await self._read(vm_id)
            if vm_id is not None and reading is not None:
                self._keep(record.id, vm_id, reading)
                yield [self._sampled(reading, before)]
                before = reading
            due = interval + (clock.monotonic() if reading is None else reading.at)
            record = await self._news(record, due, patient=reading is not None)

    async def _news(self, record: JobRecord, due: float, *, patient: bool) -> JobRecord | None:
        """Return the job when a sample is due, or at its end; None where it is deleted. Impatient, at any news."""
        while True:
            ring = self._engine.bell.listen()
            found = await self._engine.ports.jobs.get(record.id)
            left = due - self._engine.ports.clock.monotonic()
            if found is None or found.is_settled or found.attempt != record.attempt or left <= 0:
                return found
            await self._engine.bell.wait(ring, min(_LOOK, left))
            if not patient:
                return found

    async def _vm(self, record: JobRecord) -> VmId | None:
        """Return the VM of a job's newest attempt; None where it has none now."""
        if record.vm_state.is_alive:
            for job, attempt in await self._engine.ports.leader.unsettled():
                if job.id == record.id:
                    return attempt.vm_id
        return None

    async def _read(self, vm_id: VmId) -> Reading | None:
        return (await asyncio.to_thread(self._engine.ports.meter.read, [vm_id])).get(vm_id)

    async def _sample(self, vms: dict[JobId, VmId]) -> dict[JobId, Sample]:
        """Return a new sample of each job whose VM has a process, or the last one where that is hardly older."""
        now = self._engine.ports.clock.monotonic()
        fresh = {
            job_id: kept[-1].sample
            for job_id, vm_id in vms.items()
            if (kept := self._kept.get(job_id))
            if kept[-1].vm_id == vm_id and now - kept[-1].reading.at < SHORTEST
        }
        asked = {job_id: vm_id for job_id, vm_id in vms.items() if job_id not in fresh}
        readings = await asyncio.to_thread(self._engine.ports.meter.read, tuple(asked.values())) if asked else {}
        for job_id, vm_id in asked.items():
            if vm_id in readings:
                fresh[job_id] = self._keep(job_id, vm_id, readings[vm_id])
        return fresh

    def _keep(self, job_id: JobId, vm_id: VmId, reading: Reading) -> Sample:
        """Return a reading as a sample, and keep it, unless one was kept just before."""
        before = self._last(job_id, vm_id, reading.at)
        sample = self._sampled(reading, before)
        kept = self._kept.setdefault(job_id, deque(maxlen=KEPT))
        self._kept.move_to_end(job_id)
        if not kept or kept[-1].vm_id != vm_id or kept[-1].reading is before:
            kept.append(_Point(vm_id, reading, sample))
        if len(self._kept) > _JOBS:
            self._kept.popitem(last=False)
        return sample

    def _sampled(self, reading: Reading, before: Reading | None) -> Sample:
        clock = self._engine.ports.clock
        return sample_of(reading, before, clock.now() - (clock.monotonic() - reading.at))

    def _last(self, job_id: JobId, vm_id: VmId, now: float | None = None) -> Reading | None:
        """Return the last kept reading of this VM that is old enough to measure from."""
        now = self._engine.ports.clock.monotonic() if now is None else now
        for point in reversed(self._kept.get(job_id, ())):
            if point.vm_id == vm_id and now - point.reading.at >= SHORTEST:
                return point.reading
        return None

    async def _record(self, job_id: JobId) -> JobRecord:
        record = await self._engine.ports.jobs.get(job_id)
        if record is None:
            raise JobNotFound(f"There is no job {job_id}.")
        return record


def check_interval(interval: object) -> None:
    """Raise InvalidInput unless `interval` is a time between two samples."""
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not SHORTEST <= interval <= LONGEST:
        raise InvalidInput("interval", interval, f"a number of seconds from {SHORTEST} to {LONGEST:.0f}")
