"""The warmer: hands the leader what there is to start a job from, and makes more of it behind the jobs.

One thing at a time, in a task of its own: a template that somebody wishes, else one more fork for the pool. Whatever
goes wrong with either costs a job nothing but time: it boots cold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.ids import VmId, new_vm_id
from magpie_local.domain.shape import Shape
from magpie_local.domain.template import Template, template_key
from magpie_local.domain.vm import Condition
from magpie_local.engine.warm import policy
from magpie_local.engine.warm.maker import Plan, make_template
from magpie_local.engine.warm.memory import host_memory_mb
from magpie_local.engine.warm.pool import Pool, PooledVm
from magpie_local.engine.warm.report import PoolReport, write_report
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.engine.warm.wishes import PATIENCE, Wishes
from magpie_local.errors import MagpieError, SnapshotUnusable

if TYPE_CHECKING:
    from magpie_local.domain.job import JobRecord
    from magpie_local.domain.vm import BootImage, Features
    from magpie_local.engine.bell import Bell
    from magpie_local.engine.context import Options, Ports

_log = logging.getLogger("magpie.engine")

#: How often it looks around without being told, seconds.
_LOOK = 0.5
#: Seconds for which nothing is tried again after the pool could not be filled.
_SULK = 30.0

Origin = PooledVm | Template | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the leader does at this moment."""

    busy_cpus: int
    starting: int
    waits_for_memory: bool


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
        self._features = features
        self._bell = bell
        self._shelf = TemplateShelf(ports.layout.templates, ports.clock.boot_id())
        self._wishes = Wishes(ports.layout.templates)
        self._pool = Pool(ports)
        self._load = Load(busy_cpus=0, starting=0, waits_for_memory=False)
        self._last_start = ports.clock.monotonic()
        self._sulk_until = 0.0
        #: The VM of a template in the making.
        self._making: tuple[Shape, VmId] | None = None
        #: Set when there may be something to do; not the bell, which rings at every step of every job.
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether there are templates at all."""
        return self._options.warm.templates_size > 0

    @property
    def vm_ids(self) -> set[VmId]:
        """VMs that belong to no job and are wanted all the same."""
        return self._pool.vm_ids | ({self._making[1]} if self._making else set())

    async def open(self) -> None:
        """Remove what an earlier leader left half done, and begin to work."""
        await asyncio.to_thread(self._sweep)
        await asyncio.to_thread(self._ports.layout.pool_report.unlink, missing_ok=True)
        if self.is_on:
            self._task = asyncio.create_task(self._work(), name="magpie warmer")

    async def close(self) -> None:
        """Stop, and end what only this leader could use."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._pool.drain()
        if self._chores:
            await asyncio.wait(self._chores)
        await asyncio.to_thread(self._ports.layout.pool_report.unlink, missing_ok=True)

    def note(self, load: Load) -> None:
        """Take notice of what the leader does."""
        if load.starting > self._load.starting:
            self._last_start = self._ports.clock.monotonic()
        self._load = load

    def see(self, vm_id: VmId, condition: Condition) -> None:
        """Take notice of what the hypervisor says of a VM."""
        if condition in (Condition.GONE, Condition.CRASHED) and (vm := self._pool.lose(vm_id)):
            _log.warning("a fork in the pool died: %s", vm_id, extra={"action": "pool_death"})
            self._do(self._pool.clear(vm))
            self._news.set()

    async def origin(self, job: JobRecord) -> Origin:
        """Return what the job's VM should be made from: a waiting fork, a template, or None for a cold boot.

        A waiting fork is the caller's from now on: it goes to a job, or back by `give_back`.
        """
        self._last_start = self._ports.clock.monotonic()
        # A second attempt boots: whatever was wrong with a fork, it does not happen to a job twice.
        if not self.is_on or job.isolation == "private" or job.attempt > 0:
            return None
        shape = shape_of(job)
        try:
            key = template_key(shape, await self._ports.images.resolve(shape.image), self._features)
            if (vm := self._pool.take(key)) is not None:
                await asyncio.to_thread(self._shelf.touch, key)
                return vm
            return await asyncio.to_thread(self._template, key, shape)
        except (MagpieError, OSError) as error:
            # A broken image is the job's own trouble, and it will meet it.
            _log.warning("%s boots cold: %s", job.id, error, extra={"action": "cold"})
            return None

    def give_back(self, origin: Origin) -> None:
        """Take back what a job that vanished did not need."""
        if isinstance(origin, PooledVm):
            self._pool.give_back(origin)

    def distrust(self, template: Template, why: object) -> None:
        """Throw away a template of which no fork comes up, with its forks; it is made anew when next wished."""
        _log.warning("the template of %s is given up: %s", template.shape, why, extra={"action": "template_bad"})
        self._shelf.remove(template.key)
        self._do(self._drain({template.key}))

    # Behind the jobs

    async def _work(self) -> None:
        while True:
            self._news.clear()
            try:
                worked = await self._step()
            except (MagpieError, OSError) as error:
                _log.warning("warming failed: %s", error, extra={"action": "warming_failed"})
                self._sulk_until = self._ports.clock.monotonic() + _SULK
                worked = False
            except Exception:
                # A bug of ours costs warm starts, and nothing else.
                _log.exception("warming broke", extra={"action": "warming_broke"})
                self._sulk_until = self._ports.clock.monotonic() + _SULK
                worked = False
            await asyncio.to_thread(self._report)
            if not worked:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _LOOK)

    async def _step(self) -> bool:
        """Do one thing; return whether there was anything to do."""
        situation = await asyncio.to_thread(self._situation)
        if policy.is_short(situation, job_waits_for_memory=self._load.waits_for_memory) and len(self._pool):
            ended = await self._pool.drain()
            _log.info("memory is short: %d waiting forks ended", ended, extra={"action": "pool_drained"})
            return True
        wished = await asyncio.to_thread(self._wishes.all)
        if wished:
            await self._grant(wished[0])
            return True
        sulks = self._ports.clock.monotonic() < self._sulk_until
        if sulks or self._options.warm.pool == 0 or not policy.may_work(situation):
            return False
        shape = policy.next_fork(situation, await asyncio.to_thread(self._shapes), self._options.warm)
        return shape is not None and await self._fill(shape)

    async def _grant(self, shape: Shape) -> None:
        try:
            image = await self._ports.images.resolve(shape.image)
            key = template_key(shape, image, self._features)
            if await asyncio.to_thread(self._whole, key) is None:
                await self._make(shape, key, image)
        except (MagpieError, OSError) as error:
            _log.warning("no template of %s: %s", shape, error, extra={"action": "template_failed"})
            await asyncio.to_thread(self._wishes.refuse, shape, str(error))
        else:
            await asyncio.to_thread(self._wishes.grant, shape)
        self._bell.ring()

    async def _make(self, shape: Shape, key: str, image: BootImage) -> None:
        plan = Plan(
            key=key, shape=shape, image=image, features=self._features, vm_id=new_vm_id(),
            boot_timeout=self._options.boot_timeout,
        )  # fmt: skip
        self._making = shape, plan.vm_id
        await asyncio.to_thread(self._report)
        try:
            await make_template(self._ports, self._shelf, plan)
        finally:
            self._making = None
        await asyncio.to_thread(self._shelf.evict, self._options.warm.templates_size, {key})

    async def _fill(self, shape: Shape) -> bool:
        image = await self._ports.images.resolve(shape.image)
        key = template_key(shape, image, self._features)
        template = await asyncio.to_thread(self._whole, key)
        if template is None:
            if shape not in self._options.warm.pool_shapes:
                return False
            return await asyncio.to_thread(self._wish, shape)
        try:
            await self._pool.add(template, image)
        except SnapshotUnusable as error:
            self.distrust(template, error)
        return True

    async def _drain(self, keys: set[str]) -> None:
        await self._pool.drain(keys)

    # What is there

    def _template(self, key: str, shape: Shape) -> Template | None:
        template = self._whole(key)
        if template is None:
            self._wish(shape)
        else:
            self._shelf.touch(key)
        return template

    def _whole(self, key: str) -> Template | None:
        """Return a template that may be used; a damaged one is removed, with one line about it."""
        try:
            return self._shelf.find(key)
        except SnapshotUnusable as error:
            _log.warning("%s", error, extra={"action": "template_bad"})
            self._shelf.remove(key)
            return None

    def _wish(self, shape: Shape) -> bool:
        """Wish a template, unless that failed lately; return whether one is wished."""
        since = self._ports.clock.now() - PATIENCE
        if self._wishes.refusal(shape, since=since) is not None:
            return False
        with contextlib.suppress(OSError):  # a full disk; the next job tries again
            self._wishes.add(shape)
            self._loop.call_soon_threadsafe(self._news.set)
            return True
        return False

    def _shapes(self) -> list[Shape]:
        used = [(one.template.shape, one.used_at) for one in self._shelf.contents() if one.template is not None]
        return policy.shapes_to_serve(self._options.warm.pool_shapes, used, self._ports.clock.now())

    def _situation(self) -> policy.Situation:
        total, available = host_memory_mb()
        pooled = self._pool.counts()
        return policy.Situation(
            host_cpus=os.cpu_count() or 1, busy_cpus=self._load.busy_cpus, starting=self._load.starting,
            quiet=self._ports.clock.monotonic() - self._last_start, pooled=pooled,
            pool_mb=sum(pooled.values()) * policy.FORK_COST_MB, host_mb=total, available_mb=available,
        )  # fmt: skip

    def _report(self) -> None:
        waiting = self._pool.counts(waiting_only=True)
        coming = self._pool.counts() - waiting
        report = PoolReport(
            forks=self._options.warm.pool, memory_mb=self._options.warm.pool_memory_mb,
            used_mb=sum((waiting + coming).values()) * policy.FORK_COST_MB,
            waiting={str(shape): count for shape, count in waiting.items()},
            coming={str(shape): count for shape, count in coming.items()},
            making=str(self._making[0]) if self._making else None,
        )  # fmt: skip
        write_report(self._ports.layout.pool_report, report)

    def _sweep(self) -> None:
        """Remove the files of VMs that went with an earlier leader; those that live are orphans, and end as such."""
        self._shelf.sweep()
        layout = self._ports.layout
        for folder in layout.warm.glob("*"):
            layout.control(VmId(folder.name)).unlink(missing_ok=True)
        shutil.rmtree(layout.warm, ignore_errors=True)

    def _do(self, chore: object) -> None:
        task = asyncio.ensure_future(chore)  # type: ignore[call-overload]  # a coroutine of ours
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def shape_of(job: JobRecord) -> Shape:
    """Return the shape of a job's VM."""
    return Shape(job.image, job.vcpus, job.memory_mb)
