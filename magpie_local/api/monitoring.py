"""What goes on, as coroutines on the engine's loop, and the blocking face of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.api.models import EngineStatus, PoolStatus
from magpie_local.engine.warm.report import read_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.api.metrics import JobUsage
    from magpie_local.api.runtime import Runtime
    from magpie_local.api.templates import TemplateService
    from magpie_local.engine.engine import Engine


class MonitoringService:
    """The verbs.

    Args:
        engine: the engine of this process.
        templates: what knows the templates.
        budget: disk space of all templates, bytes.
    """

    def __init__(self, engine: Engine, templates: TemplateService, *, budget: int) -> None:
        self._engine = engine
        self._templates = templates
        self._budget = budget

    async def pool(self) -> PoolStatus:
        """Return the pool as its leader last told of it."""
        leader = self._engine.role
        report = await asyncio.to_thread(read_report, self._engine.ports.layout.pool_report)
        # What a leader that was killed has left says nothing of now.
        if leader == "none" or report is None:
            return PoolStatus(leader=leader, on=False)
        return PoolStatus(
            leader=leader, on=report.forks > 0, forks=report.forks, memory_mb=report.memory_mb,
            used_mb=report.used_mb, waiting=report.waiting, coming=report.coming, making=report.making,
        )  # fmt: skip

    async def engine(self) -> EngineStatus:
        """Return who leads, what there is to do, the pool and the templates."""
        counts = await self._engine.ports.jobs.counts()
        templates = await self._templates.list()
        pool = await self.pool()
        return EngineStatus(
            leader=pool.leader, jobs={state.value: count for state, count in counts.items()}, pool=pool,
            templates=len(templates), templates_size=sum(template.size for template in templates),
            templates_budget=self._budget,
        )  # fmt: skip


class Monitoring:
    """What goes on: the blocking face."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.monitoring

    def pool(self) -> PoolStatus:
        """Return the forks that wait for a job, as the process that leads last told of them."""
        return self._runtime.call(self._verbs.pool())

    def engine(self) -> EngineStatus:
        """Return who leads, how many jobs there are to do, the pool and the templates."""
        return self._runtime.call(self._verbs.engine())

    def usage(self, job_ids: Sequence[str] | None = None) -> list[JobUsage]:
        """Return these jobs, or all that have a VM, each with a new sample of what its VM takes of this machine.

        Raises:
            JobNotFound: there is none of one of the ids.
        """
        return self._runtime.call(self._runtime.metrics.usage(job_ids))
