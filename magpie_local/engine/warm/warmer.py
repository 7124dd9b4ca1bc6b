"""The warmer: hands the leader what there is to start a job from, and makes more of it behind the jobs.

One thing at a time, in a task of its own: a template that somebody wishes, else one more fork for the pool. Whatever
goes wrong with either costs a job nothing but time: it boots cold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections import Counter
from typing import TYPE_CHECKING

from magpie_local.domain.ids import VmId
from magpie_local.domain.shape import Shape
from magpie_local.domain.template import Template
from magpie_local.domain.vm import Condition
from magpie_local.engine.warm import policy
from magpie_local.engine.warm.filler import Filler
from magpie_local.engine.warm.library import Library
from magpie_local.engine.warm.pool import PooledVm
from magpie_local.engine.warm.report import PoolReport, write_report
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from magpie_local.domain.job import JobRecord
    from magpie_local.domain.vm import Features
    from magpie_local.engine.bell import Bell
    from magpie_local.engine.context import Options, Ports
    from magpie_local.engine.warm.filler import Load

_log = logging.getLogger("magpie.engine")

#: How often it looks around without being told, seconds.
_LOOK = 0.5
#: Seconds for which it leaves everything alone after a bug of ours.
_PAUSE = 30.0

Origin = PooledVm | Template | None


class Warmer:
    """Templates and pool of one leader.

    Args:
        ports: the world.
        options: budgets.
        features: the opened hypervisor.
        bell: rung when a wish was granted or refused.
    """

    def __init__(self, ports: Ports, options: Options, features: Features, bell: Bell) -> None:
        self._ports = ports
        self._options = options
        self._bell = bell
        self._loop = asyncio.get_running_loop()
        self._library = Library(ports, options, features, self._wake)
        self._filler = Filler(ports, options.warm, self._library, self.distrust)
        self._pool = self._filler.pool
        #: Set when there may be something to do; not the bell, which rings at every step of every job.
        self._news = asyncio.Event()
        self._reporting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._chores: set[asyncio.Task[object]] = set()

    @property
    def is_on(self) -> bool:
        """Whether there are templates at all."""
        return self._options.warm.templates_size > 0

    @property
    def vm_ids(self) -> set[VmId]:
        """VMs that belong to no job and are wanted all the same."""
        making = self._library.making
        return self._pool.vm_ids | ({making[1]} if making else set())

    async def open(self) -> None:
        """Remove what an earlier leader left half done, and begin to work."""
        await asyncio.to_thread(self._sweep)
        if self.is_on:
            self._tasks = [
                asyncio.create_task(self._work(), name="magpie warmer"),
                asyncio.create_task(self._watch(), name="magpie memory watch"),
            ]

    async def close(self) -> None:
        """Stop, and end what only this leader could use."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.drain()
        if self._chores:
            await asyncio.wait(self._chores)
        await asyncio.to_thread(self._ports.layout.pool_report.unlink, missing_ok=True)

    def note(self, load: Load) -> None:
        """Take notice of what the leader does."""
        self._filler.note(load)

    def see(self, vm_id: VmId, condition: Condition) -> None:
        """Take notice of what the hypervisor says of a VM."""
        if condition in (Condition.GONE, Condition.CRASHED) and (vm := self._pool.lose(vm_id)):
            _log.warning("a fork in the pool died: %s", vm_id, extra={"action": "pool_death"})
            self._do(self._pool.end(vm))
            self._news.set()

    async def origin(self, job: JobRecord) -> Origin:
        """Return what the job's VM should be made from: a waiting fork, a template, or None for a cold boot.

        A waiting fork is the caller's from now on: it goes to a job, or back by `give_back`.
        """
        self._filler.note_start()
        # A second attempt boots: whatever was wrong with a fork, it does not happen to a job twice.
        if not self.is_on or job.isolation == "private" or job.attempt > 0:
            return None
        shape = shape_of(job)
        try:
            key = self._library.key(shape, await self._ports.images.resolve(shape.image))
            if (vm := self._pool.take(key)) is not None:
                self._do(asyncio.to_thread(self._library.shelf.touch, key))
                return vm
            return await asyncio.to_thread(self._library.find, key, shape)
        except (MagpieError, OSError) as error:
            # A broken image is the job's own trouble, and it will meet it.
            _log.warning("%s boots cold: %s", job.id, error, extra={"action": "cold"})
            return None

    def give_back(self, origin: Origin) -> None:
        """End the fork that a job was to have and did not get: whether it lives nobody has looked meanwhile."""
        if isinstance(origin, PooledVm):
            self._do(self._pool.end(origin))

    def distrust(self, template: Template, why: object) -> None:
        """Throw away a template of which no fork comes up, with its forks."""
        self._do(self._give_up(template, why))

    async def _give_up(self, template: Template, why: object) -> None:
        await asyncio.to_thread(self._library.give_up, template, why)
        await self._pool.drain({template.key})

    # Behind the jobs

    async def _work(self) -> None:
        while True:
            self._news.clear()
            if not await self._safely(self._step()):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _LOOK)

    async def _step(self) -> bool:
        """Do one thing; return whether there was anything to do."""
        if await self._library.grant_one():
            self._bell.ring()
            return True
        return await self._filler.step()

    async def _watch(self) -> None:
        """Look after the host's memory, however long a step of the work takes."""
        while True:
            await self._safely(self._filler.relieve())
            await asyncio.sleep(_LOOK)

    async def _safely(self, step: Coroutine[None, None, bool]) -> bool:
        try:
            worked = await step
            await self._report()
            return worked
        except Exception:
            # A bug of ours costs warm starts, and nothing else.
            _log.exception("warming broke", extra={"action": "warming_broke"})
            await asyncio.sleep(_PAUSE)
            return False

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._news.set)

    async def _report(self) -> None:
        waiting = [str(template.shape) for template in self._pool.waiting]
        coming = [str(template.shape) for template in self._pool.coming]
        making = self._library.making
        report = PoolReport(
            forks=self._options.warm.pool, memory_mb=self._options.warm.pool_memory_mb,
            used_mb=len(waiting + coming) * policy.FORK_COST_MB,
            waiting=dict(Counter(waiting)), coming=dict(Counter(coming)), making=str(making[0]) if making else None,
        )  # fmt: skip
        async with self._reporting:
            await asyncio.to_thread(write_report, self._ports.layout.pool_report, report)

    def _sweep(self) -> None:
        """Remove the files of VMs that went with an earlier leader; those that live are orphans, and end as such."""
        self._library.open()
        layout = self._ports.layout
        for folder in layout.warm.glob("*"):
            if not folder.is_symlink():  # of a job's VM that was about to sleep
                layout.control(VmId(folder.name)).unlink(missing_ok=True)
        shutil.rmtree(layout.warm, ignore_errors=True)
        layout.pool_report.unlink(missing_ok=True)

    def _do(self, chore: Coroutine[None, None, object]) -> None:
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def shape_of(job: JobRecord) -> Shape:
    """Return the shape of a job's VM."""
    return Shape(job.image, job.vcpus, job.memory_mb)
