"""One job as it goes on: its output and its states, collected on the worker's loop, read from any thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from magpie_local import MagpieError

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import AsyncMagpie, Job, LogChunk
    from notebook_ext.source import Source

#: Seconds between two looks at a job's state; its output and its end are told at once.
_LOOK = 0.5


class Follower:
    """Follows one job to its end.

    Args:
        client: whom to ask.
        job: which job.
        news: called whenever there is something new; on the worker's thread.
    """

    def __init__(self, client: AsyncMagpie | Source, job: Job, news: Callable[[], None]) -> None:
        self.job = job
        self.ended = False
        #: Why it could not be followed to its end.
        self.error: MagpieError | None = None
        self._client = client
        self._news = news
        self._chunks: deque[LogChunk] = deque()

    def take(self) -> list[LogChunk]:
        """Return the output that came since the last call."""
        return [self._chunks.popleft() for _ in range(len(self._chunks))]

    async def run(self) -> None:
        """Follow it; never raises what the client raises."""
        watch = asyncio.ensure_future(self._watch())
        try:
            async for chunk in self._client.jobs.stream_logs(self.job.id):
                self._chunks.append(chunk)
                self._news()
            self.job = await self._client.jobs.wait(self.job.id)
        except MagpieError as error:
            self.error = error
        finally:
            watch.cancel()
            self.ended = True
            self._news()

    async def _watch(self) -> None:
        with contextlib.suppress(MagpieError):
            while not self.job.is_final:
                await asyncio.sleep(_LOOK)
                self.job = await self._client.jobs.get(self.job.id)
                self._news()
