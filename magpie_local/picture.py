"""How a notebook shows a job that a cell returns: as it is now, with the end of its output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from magpie_local.api.models import Job
    from magpie_local.api.runtime import Runtime
    from magpie_local.view.snapshot import Snapshot


class Picturing:
    """The verbs of a client whose jobs show themselves."""

    _runtime: Runtime

    def _picture(self, job: Job) -> dict[str, str]:
        return picture(self._runtime, job)


def picture(runtime: Runtime, job: Job) -> dict[str, str]:
    """Return a job by MIME type; never fails: of one that can't be asked for, what is known is shown."""
    from magpie_local.view.job_html import job_html, job_text  # only notebooks have a use for them
    from magpie_local.view.snapshot import Snapshot

    try:
        snapshot = runtime.call(_look(runtime, job.id))
    except MagpieError as error:
        snapshot = Snapshot(job=job, note=f"as it was when it was read: {error.message}")
    return {"text/plain": job_text(snapshot), "text/html": job_html(snapshot)}


async def _look(runtime: Runtime, job_id: str) -> Snapshot:
    from magpie_local.view.logtail import LogTail
    from magpie_local.view.snapshot import Snapshot

    tail = LogTail()
    async for batch in runtime.jobs.follow(job_id, follow=False):
        for chunk in batch:
            tail.feed(chunk)
    job = await runtime.jobs.get(job_id)
    elapsed = (datetime.now(UTC) - (job.started_at or job.created_at)).total_seconds()
    return Snapshot(job=job, elapsed=max(0.0, elapsed), lines=tail.lines, dropped=tail.dropped)
