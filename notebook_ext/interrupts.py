"""The interrupt of the notebook while a cell's job runs: SIGINT, then a stop, then leave.

While the cell runs, SIGINT raises nothing: a KeyboardInterrupt could land anywhere in the client, and leave a job whose
id nobody knows. A handler counts; the cell's own loop looks at the count ten times a second and more.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from magpie_local import MagpieError
from notebook_ext.short import LeftRunning

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import FrameType, TracebackType
    from typing import Self

    from magpie_local import Confirmation, Job
    from notebook_ext.session import Session

#: Presses.
INTERRUPT, STOP, LEAVE = 1, 2, 3
#: Seconds after which a cell whose job was stopped before it began does not wait for that any longer.
_PATIENCE = 0.7
#: Seconds after which a script that takes its time to end is worth a word.
_QUIET = 0.4


class Presses:
    """Counts interrupts while entered; on another thread than the main one there are none."""

    def __init__(self) -> None:
        self.count = 0
        #: Whether the third press raises KeyboardInterrupt: while there is nobody to look at the count.
        self.may_raise = False
        self._before: object = None
        self._is_main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]  # what signal() returned

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.may_raise and self.count >= LEAVE:
            raise KeyboardInterrupt


class Ladder:
    """What each press does to a job; requests are sent behind the cell, which never waits for an answer."""

    def __init__(self, session: Session, job: Job, presses: Presses) -> None:
        self._session = session
        self._job = job
        self._presses = presses
        self._done = 0
        self._since = 0.0
        self._words = ""
        self._answer: Future[Confirmation] | None = None

    @property
    def was_pressed(self) -> bool:
        """Whether there was any interrupt."""
        return self._done > 0

    def climb(self) -> None:
        """Do what was asked for since the last call.

        Raises:
            LeftRunning: the user leaves; or the job, which had not begun, ends by itself.
        """
        while self._done < self._presses.count:
            self._done += 1
            self._step()
        waited = time.monotonic() - self._since
        if self._words and waited > _QUIET:
            print(self._words, file=sys.stderr, flush=True)
            self._words = ""
        if self._done and waited > _PATIENCE and self._is_stopped_unstarted():
            raise LeftRunning(f"Job {self._job.id[:8]} is being stopped; it had not begun.", hint="")

    def _step(self) -> None:
        jobs, worker, short = self._session.behind.jobs, self._session.worker, self._job.id[:8]
        self._since = time.monotonic()
        if self._done == INTERRUPT:
            self._words = "[sent SIGINT to the script; interrupt again to stop it, a third time to leave it]"
            self._answer = worker.submit(jobs.interrupt(self._job.id))
        elif self._done == STOP:
            self._words = "[stopping the job: SIGTERM, then SIGKILL; interrupt again to leave it to that]"
            self._answer = worker.submit(jobs.request_stop(self._job.id))
        else:
            raise LeftRunning(
                f"Left job {self._job.id}; it was asked to stop, and ends by itself.",
                hint=f"`%magpie attach {short}` shows it again.",
            )

    def _is_stopped_unstarted(self) -> bool:
        """Whether the request has become the stop of a job without a script: its VM may take a while to come and go."""
        if self._answer is None or not self._answer.done():
            return False
        error = self._answer.exception()
        if isinstance(error, MagpieError):
            raise error
        return error is None and self._answer.result().status != "running"
