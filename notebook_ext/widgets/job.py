"""A job as a widget: its state, its curves, the end of its output, and Stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.view.job_html import head_html, label_html
from magpie_local.view.style import COLOURED_JOB_STYLE
from notebook_ext import display
from notebook_ext.widgets import controls
from notebook_ext.widgets.host import GivingWay
from notebook_ext.widgets.logpane import LogPane
from notebook_ext.widgets.stopping import StopButton

if TYPE_CHECKING:
    from magpie_local import AsyncMagpie
    from magpie_local.view.snapshot import Snapshot
    from notebook_ext.source import Source
    from notebook_ext.watch import Watch
    from notebook_ext.widgets.host import Host


class JobWidget(GivingWay):
    """Shows a job until it has ended, a persistent one until its VM is gone, and leaves HTML.

    Args:
        host: what all widgets share.
        source: whom to ask.
        watch: follows the job.
    """

    def __init__(self, host: Host, source: AsyncMagpie | Source, watch: Watch) -> None:
        job_id = watch.look().job.id
        self._host, self._watch = host, watch
        self._has_begun = False
        self._head = controls.html()
        self._head_key: object = None
        self._stop = StopButton(host, lambda: source.jobs.request_stop(job_id))
        self._log = LogPane(host, lambda: source.jobs.stream_logs(job_id, follow=False), watch.wake)
        super().__init__(controls.framed(
            (
                controls.html(COLOURED_JOB_STYLE + controls.STYLE), self._head, self._log.lines, self._log.foot,
                controls.bar(self._stop.button, *self._log.parts, self._stop.note),
            ),
            "magpie-job",
        ))  # fmt: skip
        self.show(watch.look())

    def begin(self) -> None:
        """Begin to follow the job."""
        if not self._has_begun:
            self._has_begun = True
            self._host.worker.submit(self._watch.run(self))

    def show(self, snapshot: Snapshot) -> int:
        """Show the job as it is now; returns how many characters that took."""
        self._stop.look()
        return self._show_head(snapshot) + self._log.show(snapshot)

    def _show_head(self, snapshot: Snapshot) -> int:
        # Its clock alone would be a message more for each piece of output.
        key = (snapshot.job, int(snapshot.elapsed or 0), snapshot.cpu, snapshot.memory, snapshot.ssh, snapshot.note)
        if key == self._head_key:
            return 0
        self._head_key = key
        head = f"<div role='group' aria-label='{label_html(snapshot.job)}'>{head_html(snapshot)}</div>"
        return controls.write(self._head, head)

    def end(self, snapshot: Snapshot) -> None:
        """Show it as it has ended."""
        self.leave(display.bundle(snapshot))
