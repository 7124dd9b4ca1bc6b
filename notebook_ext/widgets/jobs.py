"""The jobs as a widget: a table whose states are those of now, and Stop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from magpie_local import MagpieError
from magpie_local.picture import recent_jobs
from magpie_local.view.table_html import jobs_html
from magpie_local.view.tables import jobs_table, table_text
from magpie_local.view.words import SHORT
from notebook_ext.watch import goes_on
from notebook_ext.widgets import controls
from notebook_ext.widgets.host import GivingWay
from notebook_ext.widgets.stopping import StopButton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local import Job
    from notebook_ext.source import Source
    from notebook_ext.widgets.host import Host

#: Seconds between two looks.
_PACE = 1.0


class JobsWidget(GivingWay):
    """Shows the newest jobs until all of them have ended, and leaves HTML.

    Args:
        host: what all widgets share.
        source: whom to ask.
        jobs: as they are at first.
    """

    def __init__(self, host: Host, source: Source, jobs: Sequence[Job]) -> None:
        self._host, self._source = host, source
        self._jobs = list(jobs)
        self._chosen: str | None = None
        self._has_begun = False
        self._table = controls.html()
        self._stop = StopButton(host, self._ask)
        self._choice = controls.choice("Job", "The job that Stop is about", lambda: host.worker.call(self._choose))
        super().__init__(controls.framed(
            (
                controls.html(controls.STYLE), self._table,
                controls.bar(self._choice, self._stop.button, self._stop.note),
            ),
            "magpie-jobs",
        ))  # fmt: skip
        self._show()

    def begin(self) -> None:
        """Begin to look after the jobs."""
        if not self._has_begun:
            self._has_begun = True
            self._host.worker.submit(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(MagpieError):  # the client was closed, say: what is known is shown
            while any(map(goes_on, self._jobs)):
                await asyncio.sleep(_PACE)
                self._jobs = await recent_jobs(self._source.jobs.list)
                self._show()
        jobs = self._jobs
        text = table_text(jobs_table(jobs)) if jobs else "no jobs"
        self.leave({"text/plain": text, "text/html": jobs_html(jobs)})

    def _show(self) -> None:
        controls.write(self._table, jobs_html(self._jobs))
        active = filter(goes_on, self._jobs)
        controls.offer(self._choice, [(f"{job.id[:SHORT]} {job.name}", job.id) for job in active])
        self._stop.look()

    def _choose(self) -> None:
        if self._choice.value != self._chosen:
            self._chosen = self._choice.value
            self._stop.reset()

    async def _ask(self) -> None:
        if self._chosen is not None:
            await self._source.jobs.request_stop(self._chosen)
