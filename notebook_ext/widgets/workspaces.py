"""The workspaces as a widget: a table, and of the one chosen its snapshots and files."""

from __future__ import annotations

import asyncio
import time
from html import escape
from typing import TYPE_CHECKING

from magpie_local import MagpieError
from magpie_local.picture import workspaces_bundle
from magpie_local.view.plain import one_line
from magpie_local.view.table_html import files_html, snapshots_html, workspaces_html
from notebook_ext.widgets import controls
from notebook_ext.widgets.host import GivingWay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.api.workspace_info import WorkspaceInfo
    from notebook_ext.source import Source
    from notebook_ext.widgets.host import Host

#: Seconds between two looks at the list; and after which a browser that nobody uses gives way to its table.
_PACE, _IDLE = 5.0, 900.0
#: Seconds for the answer of a VM.
_PATIENCE = 15.0
_ROOT = "/workspace"


class WorkspacesWidget(GivingWay):
    """Shows the workspaces until it is closed, or has not been used for a while, and leaves HTML.

    Args:
        host: what all widgets share.
        source: whom to ask.
        found: the workspaces as they are at first.
    """

    def __init__(self, host: Host, source: Source, found: Sequence[WorkspaceInfo]) -> None:
        call = host.worker.call
        self._host, self._source = host, source
        self._found = list(found)
        self._chosen: str | None = None
        self._folder = _ROOT
        self._has_begun = self._is_closed = False
        self._news = asyncio.Event()
        self._used_at = time.monotonic()
        self._table, self._details = controls.html(), controls.html()
        self._choice = controls.choice("Workspace", "The workspace to look into", lambda: call(self._choose))
        self._path = controls.field(
            "Folder", "The folder to list, and Enter", lambda text: call(self._enter, text), value=_ROOT, at_once=False
        )
        refresh = controls.button("Refresh", "Read all again", lambda: call(self._use))
        close = controls.button("Close", "Leave the table, without the controls", lambda: call(self._close))
        super().__init__(controls.framed(
            (
                controls.html(controls.STYLE), self._table, self._details,
                controls.bar(self._choice, self._path, refresh, close),
            ),
            "magpie-workspaces",
        ))  # fmt: skip
        self._show()

    def begin(self) -> None:
        """Begin to look after them."""
        if not self._has_begun:
            self._has_begun = True
            self._host.worker.submit(self._run())

    async def _run(self) -> None:
        try:
            while not self._is_closed and time.monotonic() - self._used_at < _IDLE:
                # An event that comes while we read is not lost: it is looked at next.
                asked = self._news.is_set()
                self._news.clear()
                self._found = await self._source.workspaces.list()
                self._show()
                if asked:
                    controls.write(self._details, await self._look_into())
                await self._wait()
        except MagpieError as error:  # the client was closed, say: what is known is shown
            controls.write(self._details, _sentence(str(error)))
        self.leave(workspaces_bundle(self._found))

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), _PACE)
        except TimeoutError:
            return

    def _show(self) -> None:
        controls.write(self._table, workspaces_html(self._found))
        controls.offer(self._choice, [(one.id, one.id) for one in self._found])

    async def _look_into(self) -> str:
        """Return the chosen one's snapshots and files."""
        chosen = next((one for one in self._found if one.id == self._chosen), None)
        if chosen is None:
            return ""
        try:
            kept = snapshots_html(await self._source.workspaces.snapshots(chosen.id))
        except MagpieError as error:
            return _sentence(str(error))
        return kept + await self._files(chosen)

    async def _files(self, chosen: WorkspaceInfo) -> str:
        if chosen.in_use_by is None:
            return _sentence(
                f"No VM has it. To look inside: `%%magpie --persistent --workspace {chosen.id}` starts one that stays, "
                "and its files are listed here."
            )
        short = chosen.in_use_by[:8]
        try:
            job = await self._source.jobs.get(chosen.in_use_by)
            if not job.persistent or job.vm_state != "ready":
                return _sentence(
                    f"Job {short} has it, whose VM can't be looked into: only that of a running persistent job can. "
                    f"`%magpie logs {short}` shows what it writes."
                )
            async with asyncio.timeout(_PATIENCE):
                return files_html(await self._source.jobs.files(job.id).list(self._folder), self._folder)
        except (MagpieError, TimeoutError) as error:
            return _sentence(f"The files in the VM of job {short} can't be listed: {error or 'no answer'}")

    def _choose(self) -> None:
        if self._choice.value != self._chosen:
            self._chosen = self._choice.value
            self._folder = _ROOT
            self._path.value = _ROOT
            self._use()

    def _enter(self, folder: str) -> None:
        if (folder.strip() or _ROOT) != self._folder:
            self._folder = folder.strip() or _ROOT
            self._use()

    def _use(self) -> None:
        self._used_at = time.monotonic()
        self._news.set()

    def _close(self) -> None:
        self._is_closed = True
        self._news.set()


def _sentence(text: str) -> str:
    return f"<div class='mo' role='status'>{escape(one_line(text, 500))}</div>"
