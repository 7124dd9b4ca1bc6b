"""A job behind its cell: what is known of it, brought to a face as it comes, at a pace that a front end can follow."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from magpie_local import MagpieError
from magpie_local.view.logtail import LogTail
from magpie_local.view.snapshot import Snapshot
from notebook_ext.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import AsyncMagpie, Job
    from magpie_local.domain.metrics import Sample
    from notebook_ext.source import Source

#: Seconds between two updates of a face, and after which one without news is brought up to date.
_PACE, _IDLE = 0.11, 1.0
#: Most bytes that a face sends in a second: much output at once makes its updates rarer.
_BYTES = 150_000
#: Seconds of CPU and memory that a face shows.
_SAMPLES = 60
#: Seconds that the end of a script waits for the address of the VM that it leaves behind.
_PATIENCE = 2.0


def goes_on(job: Job) -> bool:
    """Return whether a job waits or runs; a persistent one runs as long as its VM stays."""
    return job.status in ("pending", "running")


class Face(Protocol):
    """What a job is shown by."""

    def show(self, snapshot: Snapshot) -> int:
        """Show a job as it is now; returns how many characters that took."""

    def end(self, snapshot: Snapshot) -> None:
        """Show it as it has ended; nothing comes after that."""


class Watch:
    """Follows a job to its end, on the worker's loop.

    Args:
        source: whom to ask.
        job: which job.
        lines: of output kept.
        live: whether the face changes before the job's end.
        changed: told of the job when it has ended, on another thread; returns what is to be said of that.
    """

    def __init__(
        self, source: AsyncMagpie | Source, job: Job, *, lines: int, live: bool = True,
        changed: Callable[[Job], str | None] = lambda _job: None,
    ) -> None:  # fmt: skip
        self._source = source
        self._job = job
        self._tail = LogTail(lines)
        self._live = live
        self._changed = changed
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)
        self._ssh: str | None = None
        self._news = asyncio.Event()

    def look(self, note: str | None = None) -> Snapshot:
        """Return what is known now."""
        elapsed = (datetime.now(UTC) - (self._job.started_at or self._job.created_at)).total_seconds()
        return Snapshot(
            job=self._job, elapsed=max(0.0, elapsed), lines=self._tail.lines, dropped=self._tail.dropped,
            cpu=tuple(sample.cpu for sample in self._samples), memory=tuple(sample.memory for sample in self._samples),
            ssh=self._ssh, note=note,
        )  # fmt: skip

    def wake(self) -> None:
        """Have the face brought up to date soon; on the worker's loop."""
        self._news.set()

    async def run(self, face: Face) -> None:
        """Follow the job until it has ended; a persistent one, until its VM is gone."""
        follower = Follower(self._source, self._job, self.wake)
        following = asyncio.ensure_future(follower.run())
        measuring = asyncio.ensure_future(self._measure())
        reaching = asyncio.ensure_future(self._reach())
        while not follower.ended:
            with contextlib.suppress(TimeoutError):  # its time goes on
                await asyncio.wait_for(self._news.wait(), _IDLE)
            self._news.clear()
            self._feed(follower)
            if self._live and not follower.ended:
                await asyncio.sleep(max(_PACE, face.show(self.look()) / _BYTES))
        await following
        self._feed(follower)
        note = str(follower.error) if follower.error else await asyncio.to_thread(self._changed, self._job)
        await self._stay(face, note)
        measuring.cancel()
        farewell = await self._farewell(reaching)
        face.end(self.look(note or farewell))

    async def _stay(self, face: Face, note: str | None) -> None:
        """Show the VM that a persistent job's script has left behind, until it is gone."""
        with contextlib.suppress(MagpieError):  # the client was closed, say: what is known is shown
            while goes_on(self._job):
                if self._live:
                    await asyncio.sleep(max(_PACE, face.show(self.look(note)) / _BYTES))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _IDLE)
                self._news.clear()
                self._job = await self._source.jobs.get(self._job.id)

    async def _farewell(self, reaching: asyncio.Future[None]) -> str | None:
        """Return what there is to say of a VM that stays although its script has failed."""
        if self._job.persistent and self._job.vm_state == "ready":
            await asyncio.wait({reaching}, timeout=_PATIENCE)
            return f"Its VM goes on: `%magpie stop {self._job.id[:8]}` ends it."
        reaching.cancel()
        self._ssh = None
        return None

    async def _measure(self) -> None:
        with contextlib.suppress(MagpieError):  # a face without curves is one all the same
            self._samples.extend(await self._source.jobs.metrics(self._job.id))
            async for sample in self._source.jobs.stream_metrics(self._job.id):
                self._samples.append(sample)

    async def _reach(self) -> None:
        """Find out how the VM of a persistent job is reached."""
        if not self._job.persistent:
            return
        with contextlib.suppress(MagpieError):
            self._ssh = (await self._source.jobs.ssh(self._job.id, timeout=None)).command
            self.wake()

    def _feed(self, follower: Follower) -> None:
        self._job = follower.job
        for chunk in follower.take():
            self._tail.feed(chunk)
