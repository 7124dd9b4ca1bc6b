"""What goes on, as coroutines on the engine's loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.api.models import EngineStatus, PoolStatus
from magpie_local.engine.warm.report import read_report

if TYPE_CHECKING:
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
