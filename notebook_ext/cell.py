"""A job in the foreground of a cell: submitted, shown, interrupted, ended as it ended."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local import JobFailed
from magpie_local.view.failure import failure_text
from notebook_ext.follow import Follower
from notebook_ext.interrupts import Ladder
from notebook_ext.printing import Printer
from notebook_ext.short import LeftRunning, shortened
from notebook_ext.status import StatusLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job
    from notebook_ext.interrupts import Presses
    from notebook_ext.session import Session

#: Seconds between two looks at the interrupts, and between two messages to the front end.
_TICK, _PACE = 0.05, 0.11


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a cell shows its job."""

    is_notebook: bool
    #: Lines of output printed at most.
    most_lines: int
    live: bool = True
    quiet: bool = False
    raises: bool = True


class Foreground:
    """Shows a job until it ends or is left.

    Args:
        session: whom to ask.
        manner: how to show it.
        presses: the interrupts of the cell.
        changed: told of the job when it has ended; returns what is to be said of that.
    """

    def __init__(
        self,
        session: Session,
        manner: Manner,
        presses: Presses,
        changed: Callable[[Job], str | None] = lambda _job: None,
    ) -> None:
        self._session = session
        self._manner = manner
        self._presses = presses
        self._changed = changed

    def show(self, job: Job) -> Job:
        """Show a job's output and its end; returns the job as it ended.

        Raises:
            JobFailed: it did not succeed, and that is to be an error.
            LeftRunning: the user left, or it could not be followed.
        """
        news = threading.Event()
        follower = Follower(self._session.behind, job, news.set)
        following = self._session.worker.submit(follower.run())
        printer = Printer(self._manner.most_lines, job.id)
        status = StatusLine(is_live=self._manner.live and not self._manner.quiet, is_notebook=self._manner.is_notebook)
        ladder = Ladder(self._session, job, self._presses)
        try:
            self._watch(follower, news, printer, status, ladder)
        except LeftRunning as error:
            following.cancel()
            printer.write(follower.take())
            raise shortened(error) from None
        if follower.error is not None:
            raise shortened(follower.error) from None
        ended = self._session.client.jobs.get(job.id)
        if note := self._changed(ended):
            print(f"[{note}]", file=sys.stderr)
        if not self._manner.quiet:
            status.end(ended, below=printer.has_printed)
        if not ended.success and self._manner.raises:
            raise shortened(JobFailed(failure_text(ended, printer.last_errors()), hint="")) from None
        return ended

    def _watch(
        self, follower: Follower, news: threading.Event, printer: Printer, status: StatusLine, ladder: Ladder
    ) -> None:
        wrote_at = 0.0
        while True:
            news.wait(_TICK)
            has_ended = follower.ended  # read first: what comes before the end is then never missed
            if has_ended or time.monotonic() - wrote_at >= _PACE:
                news.clear()
                if chunks := follower.take():
                    printer.write(chunks)
                    wrote_at = time.monotonic()
            elif news.is_set():
                time.sleep(_TICK / 5)  # there is something, and it is too soon to send it
            if has_ended:
                return
            ladder.climb()
            status.look(follower.job)
