"""A damaged database either works and is whole, or is StateCorrupt: never a traceback, never a hang (F34)."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.job import Outcome
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.states import EventKind, ScriptState
from magpie_local.errors import StateCorrupt, StateTooNew
from magpie_local.store import Store, open_store

if TYPE_CHECKING:
    from magpie_local.domain.layout import Layout
    from magpie_local.testing.clock import ManualClock

PAGE = 4096


async def use(store: Store) -> None:
    """Touch everything there is."""
    await store.leader.lead()
    for job in await store.jobs.page(limit=100):
        await store.jobs.inputs(job.id)
        await store.jobs.story(job.id)
    await store.leader.unsettled()
    await store.leader.requested()
    await store.jobs.counts()
    [job] = await store.jobs.add([(new_job_id(), JobSpec(name="after", script=b"true"))])
    claimed = await store.leader.claim(job.id, boot_id="boot")
    assert claimed is not None
    _, attempt = claimed
    await store.leader.finish(attempt, Outcome(kind=EventKind.FAILED, state=ScriptState.FAILED))
    await store.jobs.delete(job.id)


def damaged(good: bytes, chance: random.Random) -> bytes:
    """Return a copy with some bytes changed, its end cut off, or two pages swapped."""
    data = bytearray(good)
    match chance.randrange(4):
        case 0 | 1:
            for _ in range(chance.randint(1, 16)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 2:
            del data[chance.randrange(len(data)) :]
        case _:
            one, other = (chance.randrange(len(data) // PAGE) * PAGE for _ in range(2))
            data[one : one + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[one : one + PAGE]
    return bytes(data)


async def outcome(layout: Layout, clock: ManualClock) -> str:
    try:
        async with asyncio.timeout(5), open_store(layout, clock) as store:
            await use(store)
    except (StateCorrupt, StateTooNew):  # the version is four bytes among the others
        return "reported"
    database = sqlite3.connect(layout.database)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()
    return "works"


async def test_200_damaged_databases_work_whole_or_are_reported(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock) as store:
        await store.leader.lead()
        for number in range(30):
            spec = JobSpec(name=f"job {number}", script=b"echo\n" * 300, env={"KEY": "value" * 50})
            [job] = await store.jobs.add([(new_job_id(), spec)])
            if number % 2:
                claimed = await store.leader.claim(job.id, boot_id="boot")
                assert claimed is not None
                _, attempt = claimed
                await store.leader.record(attempt, EventKind.VM_BOOTING)
    good = layout.database.read_bytes()
    outcomes: Counter[str] = Counter()
    for seed in range(200):
        layout.database.with_name("magpie.db-journal").unlink(missing_ok=True)
        layout.database.write_bytes(damaged(good, random.Random(seed)))
        outcomes[await outcome(layout, clock)] += 1
    assert outcomes["works"] > 5, outcomes
    assert outcomes["reported"] > 50, outcomes
