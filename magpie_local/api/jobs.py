"""What one can do with jobs, as coroutines on the engine's loop."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from magpie_local.api.checks import check_seconds, check_spec, check_whole
from magpie_local.api.farewell import members_left
from magpie_local.api.logs import LogService
from magpie_local.api.models import Confirmation, Job, LogChunk, job_of
from magpie_local.api.options import spec_of, veil
from magpie_local.api.uploads import uploads_of
from magpie_local.domain.ids import new_job_id, parse_job_id
from magpie_local.domain.job import STATUSES
from magpie_local.domain.spec import UploadsSpec
from magpie_local.domain.states import ScriptState, VmState, Wish
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import private_folder
from magpie_local.engine.packing import pack
from magpie_local.errors import HostError, InvalidInput, JobActive, JobNotFound, VmUnreachable, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from typing import Unpack

    from magpie_local.api.options import JobOptions
    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import Event, JobRecord
    from magpie_local.domain.spec import JobSpec
    from magpie_local.engine.engine import Engine

#: A waiter looks by itself this often, should a ring be lost, seconds.
_LOOK = 0.5
#: Beyond the grace period, how long stop() waits for the final state, seconds.
_STOP_PATIENCE = 30.0
#: Seconds until a VM must have gone to sleep, or woken; it waits for memory, say.
VM_PATIENCE = 300.0
MAX_PAGE = 1000


class JobService:
    """The verbs.

    Args:
        engine: the engine of this process.
        log_limit: bytes of log kept of a job that names no limit.
        network: that of a job that names none.
        stop_grace: seconds between SIGTERM and SIGKILL.
        summon: called after something was asked for; sees to it that somebody carries it out.
    """

    def __init__(
        self, engine: Engine, *, log_limit: int, network: str, stop_grace: float, summon: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._log_limit = log_limit
        self._network = network
        self._stop_grace = stop_grace
        self._summon = summon
        self._logs = LogService(engine)

    async def create(
        self, name: str, script: str | bytes, vcpus: int = 1, memory_mb: int = 512, **options: Unpack[JobOptions]
    ) -> Job:
        """Check and accept a job; returns once it is stored."""
        veil(cast("dict[str, Any]", options))
        spec = spec_of(name, script, vcpus, memory_mb, options, log_limit=self._log_limit, network=self._network)
        await check_spec(self._engine, spec)
        await self._engine.can_accept()
        fault_point("J1.before")
        job_id = new_job_id()
        if secrets := options.get("secret_env"):
            box = await asyncio.to_thread(self._engine.ports.vault.seal, job_id, secrets)
            spec = replace(spec, secrets=box)
        if options.get("uploads"):
            spec = replace(spec, uploads=await self._pack(job_id, options["uploads"]))
        record = await self._add(job_id, spec)
        fault_point("J1.after")
        self._asked()
        return job_of(record)

    async def _pack(self, job_id: JobId, given: object) -> UploadsSpec:
        layout = self._engine.ports.layout
        uploads = uploads_of(given)
        await asyncio.to_thread(private_folder, layout.uploads)
        packed = await asyncio.to_thread(pack, uploads, layout.upload(job_id))
        return UploadsSpec(size=packed.size, crc=packed.crc)

    async def _add(self, job_id: JobId, spec: JobSpec) -> JobRecord:
        try:
            if spec.ipv6_lease is not None:
                await members_left(self._engine.ports, spec.network, lambda other: other.ipv6_lease == spec.ipv6_lease)
            (record,) = await self._engine.ports.jobs.add([(job_id, spec)])
        except BaseException:
            if spec.uploads is not None:
                self._engine.ports.layout.upload(job_id).unlink(missing_ok=True)
            raise
        return record

    async def run_and_wait(
        self, name: str, script: str | bytes, vcpus: int = 1, memory_mb: int = 512, *, poll_interval: float = 5,
        **options: Unpack[JobOptions],
    ) -> Job:  # fmt: skip
        """Create a job and wait for its end. Its end is pushed, so `poll_interval` is only checked."""
        check_seconds("poll_interval", poll_interval)
        job = await self.create(name, script, vcpus, memory_mb, **options)
        return await self.wait(job.id)

    async def get(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return job_of(await self._record(parse_job_id(job_id)))

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Return the job once its script's state is final; giving up on waiting never touches the job."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        return await self._wait(parse_job_id(job_id), lambda record: record.script_state.is_final, timeout)

    async def _wait(self, parsed: JobId, holds: Callable[[JobRecord], bool], timeout: float | None) -> Job:
        clock = self._engine.ports.clock
        give_up = math.inf if timeout is None else clock.monotonic() + timeout
        while True:
            ring = self._engine.bell.listen()
            record = await self._record(parsed)
            if holds(record):
                return job_of(record)
            left = give_up - clock.monotonic()
            if left <= 0:
                what = f"still has to {record.wish}" if record.wish and record.is_kept else "has not ended"
                raise WaitTimeout(f"Job {parsed} {what} after {timeout} s; it goes on.")
            await self._engine.bell.wait(ring, min(_LOOK, left))

    async def page(
        self, limit: int = 100, offset: int = 0, status: str | None = None, before: str | None = None
    ) -> list[Job]:
        """Return jobs, newest first."""
        check_whole("limit", limit, 1, MAX_PAGE)
        check_whole("offset", offset, 0, 2**53)
        if status is not None and status not in STATUSES:
            raise InvalidInput("status", status, f"one of {', '.join(STATUSES)}")
        seq = (await self._record(parse_job_id(before))).seq if before is not None else None
        page = await self._engine.ports.jobs.page(limit=limit, offset=offset, status=status, before=seq)
        return [job_of(record) for record in page]

    async def text(self, job_id: str, tail: int | None = None) -> str:
        """Return the output so far, or its last lines."""
        if tail is not None:
            check_whole("tail", tail, 0, 2**53)
        return await self._logs.text(parse_job_id(job_id), tail)

    def follow(self, job_id: str, *, follow: bool = True) -> AsyncGenerator[list[LogChunk], None]:
        """Yield the output in batches: history, then live, until the script's end."""
        return self._logs.follow(parse_job_id(job_id), follow=follow)

    async def stop(self, job_id: str) -> Confirmation:
        """Ask for a stop and wait until it has taken effect; stopping a final job changes nothing."""
        parsed = parse_job_id(job_id)
        if await self._engine.ports.jobs.request_stop(parsed) is None:
            raise _unknown(parsed)
        self._asked()
        job = await self._wait(parsed, _has_stopped, self._stop_grace + _STOP_PATIENCE)
        return Confirmation(id=job.id, status=job.status)

    async def request_stop(self, job_id: str) -> Confirmation:
        """Leave a durable request to stop, and return at once."""
        parsed = parse_job_id(job_id)
        record = await self._engine.ports.jobs.request_stop(parsed)
        if record is None:
            raise _unknown(parsed)
        self._asked()
        return Confirmation(id=parsed, status=job_of(record).status)

    async def sleep(self, job_id: str) -> Job:
        """Put the VM of a persistent job to sleep, and return when it sleeps."""
        job = await self._ask_vm(job_id, Wish.SLEEP)
        if job.vm_state != VmState.ASLEEP:
            raise HostError(
                f"The VM of job {job.id} could not be put to sleep: {await self._last_words(job.id)}", hint=""
            )
        return job

    async def wake(self, job_id: str) -> Job:
        """Wake the VM of a persistent job, and return when it runs."""
        job = await self._ask_vm(job_id, Wish.WAKE)
        if job.vm_state != VmState.READY:
            raise VmUnreachable(f"The VM of job {job.id} is gone: {await self._last_words(job.id)}")
        return job

    async def _ask_vm(self, job_id: str, wish: Wish) -> Job:
        """Have a VM asked for something, and return the job when that is done, or has failed."""
        parsed = parse_job_id(job_id)
        record = await self._engine.ports.wishes.ask_vm(parsed, wish)
        if record is None:
            raise _unknown(parsed)
        _check_kept(record)
        self._asked()
        return await self._wait(parsed, lambda record: record.wish is None or not record.is_kept, VM_PATIENCE)

    async def _last_words(self, job_id: str) -> str:
        texts = [str(event.detail["text"]) for event in await self.story(job_id) if "text" in event.detail]
        return texts[-1] if texts else "nobody said why"

    async def interrupt(self, job_id: str) -> Confirmation:
        """Leave a request for SIGINT to a running script; a job whose script has not started is stopped instead."""
        parsed = parse_job_id(job_id)
        record = await self._record(parsed)
        if record.script_state is not ScriptState.RUNNING:
            return (
                Confirmation(id=parsed, status=job_of(record).status)
                if record.script_state.is_final
                else (await self.request_stop(job_id))
            )
        await asyncio.to_thread(self._engine.interrupts.ask, parsed)
        self._asked()
        return Confirmation(id=parsed, status=job_of(record).status)

    async def delete(self, job_id: str, *, force: bool = False) -> Confirmation:
        """Delete a job with its logs; `force` stops it first. Returns when it is gone."""
        parsed = parse_job_id(job_id)
        record = await self._record(parsed)
        if record.needs_vm and not force:
            raise JobActive(f"Job {parsed} is {job_of(record).status}.")
        patience = self._stop_grace + _STOP_PATIENCE
        try:
            async with asyncio.timeout(patience):
                while not await self._engine.delete(parsed):
                    self._asked()
                    await self._engine.bell.wait(self._engine.bell.listen(), _LOOK)
        except TimeoutError:
            raise WaitTimeout(
                f"Job {parsed} is not gone after {patience:.0f} s; the request to delete it stands.", hint=""
            ) from None
        return Confirmation(id=parsed, status="deleted")

    async def story(self, job_id: str) -> list[Event]:
        """Return what happened to a job, oldest first."""
        parsed = parse_job_id(job_id)
        await self._record(parsed)
        return await self._engine.ports.jobs.story(parsed)

    async def _record(self, job_id: JobId) -> JobRecord:
        record = await self._engine.ports.jobs.get(job_id)
        if record is None:
            raise _unknown(job_id)
        return record

    def _asked(self) -> None:
        self._engine.bell.ring()
        self._summon()


def _has_stopped(record: JobRecord) -> bool:
    """Whether a stop has taken effect: a VM that was to stay is gone as well."""
    return record.script_state.is_final and not (record.persistent and record.vm_state.is_alive)


def _check_kept(record: JobRecord) -> None:
    if not record.persistent:
        raise InvalidInput("job_id", record.id, "its VM ends with its script; create it with persistent=True")
    if not record.script_state.is_final:
        raise JobActive(f"The script of job {record.id} has not ended.", hint="Its VM can sleep afterwards.")
    if not record.is_kept:
        raise VmUnreachable(f"The VM of job {record.id} is gone.")


def _unknown(job_id: JobId) -> JobNotFound:
    return JobNotFound(f"There is no job {job_id}.")
