"""A job and its attempt as they are stored, and the leader's pen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.states import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.job import Attempt, JobRecord, Outcome
    from magpie_local.ports.store import Detail, LeaderStore


class Ledger:
    """What is known of one attempt; each entry is durable before anything follows from it.

    Args:
        store: where entries go.
        job: the job as it is now.
        attempt: which try of it.
        changed: called after each entry, to wake those who wait for it.
    """

    def __init__(self, store: LeaderStore, job: JobRecord, attempt: Attempt, changed: Callable[[], None]) -> None:
        self.job = job
        self.attempt = attempt
        self.changed = changed
        self._store = store

    async def record(
        self, kind: EventKind, detail: Detail | None = None, *, accelerator: str | None = None, start: str | None = None
    ) -> None:
        """Enter one event."""
        job = await self._store.record(self.attempt, kind, detail, accelerator=accelerator, start=start)
        self.job = job or self.job
        self.changed()

    async def note(self, text: str) -> None:
        """Enter something worth telling that changes no state."""
        await self.record(EventKind.NOTE, {"text": text})

    async def finish(self, outcome: Outcome) -> None:
        """Enter how the script ended; what is final stays."""
        self.job = await self._store.finish(self.attempt, outcome) or self.job
