"""The leader: recovers what an earlier one left, starts what fits, carries out requests, one task an attempt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from magpie_local.domain.ids import JobId
from magpie_local.domain.states import ScriptState
from magpie_local.domain.vm import Condition
from magpie_local.engine.admission import Capacity, admit, short_of_memory
from magpie_local.engine.attempt import AttemptRun
from magpie_local.engine.evidence import gather
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import job_folders, old_uploads, private_folder, remove_job
from magpie_local.engine.interrupts import Interrupts
from magpie_local.engine.locks import ProcessLock
from magpie_local.engine.recovery import Step, decide
from magpie_local.engine.warm.filler import Load
from magpie_local.engine.warm.memory import host_memory_mb
from magpie_local.engine.warm.pool import PooledVm
from magpie_local.engine.warm.warmer import Warmer
from magpie_local.engine.workspaces import Workspaces
from magpie_local.errors import LeadershipLost

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.domain.vm import Features, VmSight
    from magpie_local.engine.bell import Bell
    from magpie_local.engine.context import Options, Ports
    from magpie_local.engine.warm.warmer import Origin

_log = logging.getLogger("magpie.engine")

#: How often the leader looks at the store, and at its VMs, without being told, seconds (a lost ring or event costs
#: this much).
_HEARTBEAT = 1.0
_RECONCILE = 5.0
#: Least time between two looks at the store, seconds.
_BREATH = 0.02
#: How long step_down waits for VMs that are being destroyed, seconds.
_FAREWELL = 4.0
#: How many queued jobs are looked at at a time.
_QUEUE_VIEW = 32


class Leader:
    """Drives the jobs of a state directory while its process holds the leader lock.

    Args:
        ports: the world.
        options: capacity and patience.
        bell: rung after each durable change.
    """

    def __init__(self, ports: Ports, options: Options, bell: Bell) -> None:
        self._ports = ports
        self._options = options
        self._capacity = Capacity(cpus=options.cpus, memory_mb=options.memory_mb)
        self._bell = bell
        self._features: Features | None = None
        self._runs: dict[JobId, AttemptRun] = {}
        self._tasks: dict[JobId, asyncio.Task[None]] = {}
        self._orphans: set[asyncio.Task[None]] = set()
        self._warmer: Warmer | None = None
        self._lost = False
        self._interrupts = Interrupts(ports.layout.interrupts)

    async def take_over(self) -> None:
        """Open the hypervisor and adopt or end whatever is there."""
        await self._ports.leader.lead()
        fault_point("lead.after")
        self._features = await self._ports.hypervisor.open()
        self._ports.hypervisor.watch(self._see)
        self._warmer = Warmer(self._ports, self._options, self._features, self._bell)
        await self._reconcile()
        await self._ports.networks.sweep({run.attempt.vm_id for run in self._runs.values()})
        await self._sweep()
        await self._warmer.open()
        fault_point("recover.after")

    async def drive(self) -> None:
        """Go on until cancelled.

        Raises:
            LeadershipLost: another process leads.
        """
        clock = self._ports.clock
        reconcile_at = clock.monotonic() + _RECONCILE
        while True:
            began, ring = clock.monotonic(), self._bell.listen()
            if self._lost:
                raise LeadershipLost
            await self._carry_out_requests()
            await self._start_jobs()
            if clock.monotonic() >= reconcile_at:
                await self._reconcile()
                await self._ports.networks.mend()
                reconcile_at = clock.monotonic() + _RECONCILE
            await self._bell.wait(ring, _HEARTBEAT)
            # The first ring is answered at once; in a burst, one look serves many.
            await asyncio.sleep(max(0.0, began + _BREATH - clock.monotonic()))

    async def step_down(self) -> None:
        """Stop driving: tear-downs may end for a while, scripts and VMs are left as they are; the pool ends."""
        farewell = asyncio.create_task(self._warmer.close()) if self._warmer is not None else None
        for job_id, task in self._tasks.items():
            if self._runs[job_id].job.needs_vm:
                task.cancel()
        rest = {*self._tasks.values(), *self._orphans, *filter(None, [farewell])}
        if rest:
            await asyncio.wait(rest, timeout=_FAREWELL)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._ports.hypervisor.close()

    # What others left

    async def _reconcile(self) -> None:
        """Compare the store with the hypervisor; also the safety net for lost events (F53) and for runs that broke."""
        expected = {job_id for job_id, run in self._runs.items() if run.has_vm}
        found = {sight.id: sight.condition for sight in await self._ports.hypervisor.sights()}
        for job, attempt in await self._ports.leader.unsettled():
            condition = found.pop(attempt.vm_id, Condition.GONE)
            if job.id not in self._runs:
                await self._recover(job, attempt, condition)
            elif job.id in expected and condition is not Condition.STARTING:
                self._runs[job.id].see(condition)
        for vm_id in found.keys() - self._of_warmer():
            self._destroy_orphan(vm_id)

    async def _recover(self, job: JobRecord, attempt: Attempt, condition: Condition) -> None:
        files = self._ports.layout.attempt(attempt.job_id, attempt.number)
        evidence = await asyncio.to_thread(gather, files, attempt.nonce)
        step = decide(job, attempt, condition, evidence)
        _log.info("recovering %s: %s", attempt.id, step.name, extra={"action": "recover", "vm": condition})
        run = self._make_run(job, attempt)
        self._drive(run, _course(run, step, condition))

    def _of_warmer(self) -> set[VmId]:
        return set() if self._warmer is None else self._warmer.vm_ids

    async def _sweep(self) -> None:
        """Remove what crashes have left: job folders in the middle of a delete, disks that no workspace has."""
        await Workspaces(self._ports).sweep()
        for job_id in await asyncio.to_thread(old_uploads, self._ports.layout):
            if await self._ports.jobs.get(job_id) is None:
                self._ports.layout.upload(job_id).unlink(missing_ok=True)
        for name in await asyncio.to_thread(job_folders, self._ports.layout):
            if await self._ports.jobs.get(JobId(name)) is None:
                await asyncio.to_thread(remove_job, self._ports.layout, name)

    def _destroy_orphan(self, vm_id: VmId) -> None:
        _log.warning("destroying a VM of ours that no job has: %s", vm_id, extra={"action": "orphan"})
        task = asyncio.create_task(self._ports.hypervisor.destroy(vm_id))
        self._orphans.add(task)
        task.add_done_callback(self._orphans.discard)

    # What is asked for

    async def _carry_out_requests(self) -> None:
        for job in await self._ports.leader.requested():
            if (run := self._runs.get(job.id)) is not None:
                asks = job.stop_requested_at is not None or job.delete_requested_at is not None
                run.ask_stop() if asks else run.look()
            elif job.delete_requested_at is not None and await self._ports.jobs.delete(job.id):
                await asyncio.to_thread(remove_job, self._ports.layout, job.id)
                self._bell.ring()
        for job_id in self._interrupts.all():
            run = self._runs.get(job_id)
            if run is None or run.job.script_state is not ScriptState.RUNNING or run.interrupt():
                self._interrupts.forget(job_id)

    async def _start_jobs(self) -> None:
        running = [run.job for run in self._runs.values() if run.takes_room]
        queue = [job for job in await self._ports.leader.queue(_QUEUE_VIEW) if job.id not in self._runs]
        admission = admit(queue, running, self._capacity)
        for job in admission.start:
            with self._workspace_lock(job) as free:
                if free:
                    await self._start_job(job)
        self._tell_warmer()
        blocked = admission.blocked
        if blocked is not None and blocked.waiting != admission.reason:
            await self._ports.leader.waiting(blocked.id, admission.reason)
            self._bell.ring()

    async def _start_job(self, job: JobRecord) -> None:
        assert self._warmer is not None
        fault_point("J2.before")
        origin = await self._warmer.origin(job)
        vm_id = origin.id if isinstance(origin, PooledVm) else None
        claimed = None
        try:
            claimed = await self._ports.leader.claim(job.id, boot_id=self._ports.clock.boot_id(), vm_id=vm_id)
            fault_point("J2.after")
        finally:
            if claimed is None:
                self._warmer.give_back(origin)
        if claimed is not None:
            run = self._make_run(*claimed, origin)
            self._drive(run, run.run())

    @contextlib.contextmanager
    def _workspace_lock(self, job: JobRecord) -> Iterator[bool]:
        """Keep others from changing the job's workspace until its claim says that it has it; yield whether it is free.

        While somebody changes it (a copy takes long) the job waits, and the others go on.
        """
        if job.workspace_id is None:
            yield True
            return
        private_folder(self._ports.layout.workspaces)
        lock = ProcessLock(self._ports.layout.workspace_lock(job.workspace_id))
        try:
            yield lock.acquire()
        finally:
            lock.release()

    def _tell_warmer(self) -> None:
        assert self._warmer is not None
        jobs = [run.job for run in self._runs.values() if not run.job.script_state.is_final]
        starting = sum(job.script_state is ScriptState.STARTING for job in jobs)
        self._warmer.note(Load(busy_cpus=sum(job.vcpus for job in jobs), starting=starting))

    # Runs

    def _make_run(self, job: JobRecord, attempt: Attempt, origin: Origin = None) -> AttemptRun:
        assert self._features is not None
        assert self._warmer is not None
        return AttemptRun(
            self._ports,
            self._options,
            job,
            attempt,
            accelerator=self._features.accelerator,
            origin=origin,
            distrust=self._warmer.distrust,
            changed=self._bell.ring,
            room=self._short_of_memory,
        )

    def _short_of_memory(self, job: JobRecord) -> str | None:
        others = [run.job for run in self._runs.values() if run.takes_room and run.job.id != job.id]
        return short_of_memory(job, others, self._capacity, host_memory_mb()[1])

    def _drive(self, run: AttemptRun, course: Coroutine[None, None, None]) -> None:
        job_id = run.job.id
        self._runs[job_id] = run
        self._tasks[job_id] = task = asyncio.create_task(course, name=f"attempt {run.attempt.id}")
        task.add_done_callback(lambda task: self._driven(job_id, task))

    def _driven(self, job_id: JobId, task: asyncio.Task[None]) -> None:
        del self._tasks[job_id], self._runs[job_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            # The next reconciliation takes the attempt up again.
            self._lost = self._lost or isinstance(error, LeadershipLost)
            _log.error("the attempt of %s broke", job_id, exc_info=error, extra={"action": "attempt_broke"})
        self._bell.ring()

    def _see(self, sight: VmSight) -> None:
        if self._warmer is not None:
            self._warmer.see(sight.id, sight.condition)
        for run in self._runs.values():
            if run.attempt.vm_id == sight.id:
                run.see(sight.condition)


def _course(run: AttemptRun, step: Step, condition: Condition) -> Coroutine[None, None, None]:
    match step:
        case Step.CLEAR:
            return run.clear(condition)
        case Step.KEEP:
            return run.keep(condition)
        case Step.REQUEUE:
            return run.requeue()
        case Step.RESUME:
            return run.resume()
        case Step.CONCLUDE:
            return run.conclude(condition)
