"""Which widget shows what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local import Job
from magpie_local.api.workspace_faces import AsyncWorkspaces, Workspaces
from magpie_local.picture import Picturing, recent_jobs
from notebook_ext.watch import Watch, goes_on
from notebook_ext.widgets.job import JobWidget
from notebook_ext.widgets.jobs import JobsWidget
from notebook_ext.widgets.workspaces import WorkspacesWidget

if TYPE_CHECKING:
    from notebook_ext.source import Source
    from notebook_ext.widgets.host import Host, Shown


def make(host: Host, shown: object, source: Source) -> Shown | None:
    """Return a widget of a job, of `client.jobs` or `client.workspaces`; None for what does not change any more."""
    if isinstance(shown, Job):
        return JobWidget(host, source, Watch(source, shown, lines=host.lines)) if goes_on(shown) else None
    if isinstance(shown, Picturing):
        jobs = host.fetch(recent_jobs(source.jobs.list))
        return JobsWidget(host, source, jobs) if any(map(goes_on, jobs)) else None
    if isinstance(shown, Workspaces | AsyncWorkspaces):
        found = host.fetch(source.workspaces.list())
        return WorkspacesWidget(host, source, found) if found else None
    return None
