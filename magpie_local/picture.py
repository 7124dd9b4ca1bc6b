"""How a notebook shows what a cell returns: a job, the jobs, the workspaces, as they are now.

HTML and text are always there. A face that is loaded may add to them (the notebook's widgets): it leaves a function
here, and the core imports no face.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from magpie_local.api.workspace_faces import AsyncWorkspaces, Workspaces
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from magpie_local.api.models import Job
    from magpie_local.api.runtime import Runtime
    from magpie_local.api.workspace_info import WorkspaceInfo
    from magpie_local.view.snapshot import Snapshot

#: Jobs shown of `client.jobs`: so many of those that go on, and so many of the newest.
_ACTIVE, _RECENT = 100, 20
#: Seconds that a picture waits for the address of a VM that is there.
_PATIENCE = 1.0


#: Gets the Job, or the client's jobs or workspaces, that are shown, and the engine behind them; returns more of their
#: picture, by MIME type.
Addition: TypeAlias = "Callable[[object, Runtime], Mapping[str, Any]]"
_additions: list[Addition] = []


def add_to_pictures(addition: Addition) -> None:
    """Have `addition` asked for more of each picture; adding it twice is adding it once."""
    if addition not in _additions:
        _additions.append(addition)


def remove_from_pictures(addition: Addition) -> None:
    """Undo `add_to_pictures`; of what was not added, nothing."""
    if addition in _additions:
        _additions.remove(addition)


class Picturing:
    """The verbs of a client whose jobs show themselves; the client's jobs as a whole are a table."""

    _runtime: Runtime

    def _picture(self, job: Job) -> dict[str, Any]:
        return picture(self._runtime, job)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        from magpie_local.view.table_html import jobs_html
        from magpie_local.view.tables import jobs_table, table_text

        try:
            jobs = self._runtime.call(recent_jobs(self._runtime.jobs.page))
        except MagpieError as error:
            return {"text/plain": error.message}
        text = table_text(jobs_table(jobs)) if jobs else "no jobs"
        return {**_added(self, self._runtime), "text/plain": text, "text/html": jobs_html(jobs)}


class PicturedWorkspaces(Workspaces):
    """What one can do with workspaces, the disks that outlive jobs (docs/workspaces.md)."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return _workspaces_picture(self, self._runtime)


class PicturedAsyncWorkspaces(AsyncWorkspaces):
    """The same, awaited; errors as in `Workspaces`."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return _workspaces_picture(self, self._runtime)


def picture(runtime: Runtime, job: Job) -> dict[str, Any]:
    """Return a job by MIME type; never fails: of one that can't be asked for, what is known is shown."""
    from magpie_local.view.job_html import job_html, job_text  # only notebooks have a use for them
    from magpie_local.view.snapshot import Snapshot

    added: Mapping[str, Any] = {}
    try:
        snapshot = runtime.call(_look(runtime, job.id))
        added = _added(snapshot.job, runtime)
    except MagpieError as error:
        snapshot = Snapshot(job=job, note=f"as it was when it was read: {error.message}")
    return {**added, "text/plain": job_text(snapshot), "text/html": job_html(snapshot)}


async def recent_jobs(page: Callable[..., Awaitable[list[Job]]]) -> list[Job]:
    """Return the jobs that are shown, the newest first: those that go on, and the newest of all.

    Args:
        page: returns jobs, as `client.jobs.list` does.
    """
    found = {job.id: job for status in ("pending", "running") for job in await page(_ACTIVE, 0, status)}
    found |= {job.id: job for job in await page(_RECENT)}  # read last: these are the news
    return sorted(found.values(), key=lambda job: job.created_at, reverse=True)


def workspaces_bundle(found: list[WorkspaceInfo]) -> dict[str, str]:
    """Return a list of workspaces as text and HTML."""
    from magpie_local.view.table_html import workspaces_html
    from magpie_local.view.tables import table_text, workspaces_table

    text = table_text(workspaces_table(found)) if found else "no workspaces"
    return {"text/plain": text, "text/html": workspaces_html(found)}


def _workspaces_picture(shown: object, runtime: Runtime) -> dict[str, Any]:
    try:
        found = runtime.call(runtime.workspaces.list())
    except MagpieError as error:
        return {"text/plain": error.message}
    return {**_added(shown, runtime), **workspaces_bundle(found)}


def _added(shown: object, runtime: Runtime) -> Mapping[str, Any]:
    return {mime: data for addition in _additions for mime, data in addition(shown, runtime).items()}


async def _look(runtime: Runtime, job_id: str) -> Snapshot:
    from magpie_local.view.logtail import LogTail
    from magpie_local.view.snapshot import Snapshot

    tail = LogTail()
    async for batch in runtime.jobs.follow(job_id, follow=False):
        for chunk in batch:
            tail.feed(chunk)
    job = await runtime.jobs.get(job_id)
    elapsed = (datetime.now(UTC) - (job.started_at or job.created_at)).total_seconds()
    return Snapshot(
        job=job, elapsed=max(0.0, elapsed), lines=tail.lines, dropped=tail.dropped, ssh=await _shell(runtime, job)
    )


async def _shell(runtime: Runtime, job: Job) -> str | None:
    """Return the command that leads into a job's VM; None where there is none. One that sleeps is let sleep."""
    if not job.persistent or job.vm_state != "ready":
        return None
    try:
        return (await runtime.remote.ssh(job.id, _PATIENCE)).command
    except MagpieError:
        return None
