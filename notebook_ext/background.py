"""Jobs behind their cells: each has one display that goes on where it began, whatever the kernel does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from magpie_local import MagpieError
from magpie_local.view.job_html import job_html, job_text
from magpie_local.view.logtail import LogTail
from magpie_local.view.snapshot import Snapshot
from notebook_ext.follow import Follower
from notebook_ext.frontend import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job
    from magpie_local.domain.metrics import Sample
    from notebook_ext.session import Session

#: Seconds between two updates of a display, and after which one without news is brought up to date.
_PACE, _IDLE = 0.11, 1.0
#: Most bytes that a display sends in a second: much output at once makes its updates rarer.
_BYTES = 150_000
#: Seconds of CPU and memory that a display shows.
_SAMPLES = 60


class Background:
    """Shows a job in a display that is updated until it ends.

    Args:
        session: whom to ask.
        lines: of output shown.
        live: whether the display changes before the job's end.
        changed: told of the job when it has ended, on another thread; returns what is to be said of that.
    """

    def __init__(
        self, session: Session, *, lines: int, live: bool, changed: Callable[[Job], str | None] = lambda _job: None
    ) -> None:
        self._session = session
        self._tail = LogTail(lines)
        self._live = live
        self._changed = changed
        self._place = Place()
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)
        self._began = time.monotonic()

    def show(self, job: Job) -> None:
        """Show it; returns at once."""
        self._publish(job)
        self._session.worker.submit(self._run(job))

    async def _run(self, job: Job) -> None:
        news = asyncio.Event()
        follower = Follower(self._session.behind, job, news.set)
        following = asyncio.ensure_future(follower.run())
        measuring = asyncio.ensure_future(self._measure(job.id))
        while not follower.ended:
            with contextlib.suppress(TimeoutError):  # its time goes on
                await asyncio.wait_for(news.wait(), _IDLE)
            news.clear()
            self._feed(follower)
            if self._live and not follower.ended:
                await asyncio.sleep(max(_PACE, self._publish(follower.job) / _BYTES))
        await following
        measuring.cancel()
        self._feed(follower)
        note = str(follower.error) if follower.error else await asyncio.to_thread(self._changed, follower.job)
        self._publish(follower.job, note=note)

    async def _measure(self, job_id: str) -> None:
        with contextlib.suppress(MagpieError):  # a display without curves is one all the same
            async for sample in self._session.behind.jobs.stream_metrics(job_id):
                self._samples.append(sample)

    def _feed(self, follower: Follower) -> None:
        for chunk in follower.take():
            self._tail.feed(chunk)

    def _publish(self, job: Job, note: str | None = None) -> int:
        """Bring the display up to date; returns how many characters that took."""
        elapsed = time.monotonic() - self._began
        lines, dropped = self._tail.lines, self._tail.dropped
        snapshot = Snapshot(
            job=job, elapsed=elapsed, lines=lines, dropped=dropped, note=note,
            cpu=tuple(sample.cpu for sample in self._samples), memory=tuple(sample.memory for sample in self._samples),
        )  # fmt: skip
        bundle = {"text/plain": job_text(snapshot), "text/html": job_html(snapshot)}
        self._place.show(bundle)
        return sum(map(len, bundle.values()))
