"""The store under load: python -m benchmarks.store [--json FILE] [--finished N] [--folder DIR].

The folder decides the figures more than anything else does: commits wait for its disk. A raw sqlite3 single-row commit
with the same durability, measured in the same run, is the reference.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Figure, number, report, times
from magpie_local.domain.ids import new_job_id
from magpie_local.domain.layout import Layout
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.states import ScriptState
from magpie_local.ports.clock import SystemClock
from magpie_local.store import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from magpie_local.domain.ids import JobId
    from magpie_local.store import Store

QUEUED = 10_000
REPEATS = 200
FINISHED_ROWS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
INSERT INTO jobs (id, name, description, vcpus, memory_mb, image, log_limit, script_state, vm_state, attempt,
                  created_at, started_at, finished_at, exit_code)
SELECT printf('%08x-0000-4000-8000-000000000000', n), 'job ' || n, '', 1, 512, 'base', 16777216,
       CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'succeeded' END, 'gone', 1, n, n, n + 1, n % 1000 = 0
FROM numbers
"""
INPUTS = "INSERT INTO inputs (job, env, script) SELECT seq, '{}', x'74727565' FROM jobs"


def main() -> None:
    """Run all parts and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.store")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--finished", type=int, default=1_000_000, help="finished jobs in the history")
    parser.add_argument("--folder", type=Path, help="measure on the disk of this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="magpie-bench-") as folder:
        figures = asyncio.run(measure(Path(folder), arguments.finished))
    report(f"Store, SQLite {sqlite3.sqlite_version}", figures, json_file=arguments.json)


async def measure(folder: Path, finished: int) -> list[Figure]:
    """Return all figures."""
    figures = [raw_commits(folder / "raw.db")]
    figures += await submitting(Layout(folder / "queue", folder / "run"))
    history = Layout(folder / "history", folder / "run")
    await fill_history(history, finished)
    return figures + await paging(history, finished)


def raw_commits(path: Path) -> Figure:
    """Return the time of a single-row commit without any of our code."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = PERSIST")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE t (x)")
        spread = []
        for at in range(1000):
            began = time.perf_counter()
            database.execute("INSERT INTO t VALUES (?)", (at,))
            spread.append(time.perf_counter() - began)
    return times("reference: raw sqlite3 commit", spread)


async def submitting(layout: Layout) -> list[Figure]:
    """Return the figures of a queue that fills and is worked off."""
    async with open_store(layout, SystemClock()) as store:
        one_by_one = await rate(2000, lambda: one_after_another(store, 2000))
        at_once = await rate(3000, lambda: all_at_once(store, 3000))
        batch = await rate(5000, lambda: store.jobs.add([a_job() for _ in range(5000)]))
        await store.leader.lead()
        assert len(await store.leader.queue(QUEUED + 1)) == QUEUED
        claims = [await timed(partial(claim, store, job.id)) for job in await store.leader.queue(1000)]
        queue = [await timed(lambda: store.leader.queue(100)) for _ in range(REPEATS)]
    return [
        number("submit, one after another", one_by_one, "jobs/s", goal=">= 500"),
        number("submit, many callers at once", at_once, "jobs/s", goal=">= 500"),
        number("submit, one call of 5,000", batch, "jobs/s", goal=">= 500"),
        times(f"claim, {QUEUED:,} queued", claims, goal="p99 <= 50"),
        times("oldest 100 of the queue", queue),
    ]


async def paging(layout: Layout, finished: int) -> list[Figure]:
    """Return the figures of reading a long history."""
    opens = [await timed(lambda: open_and_close(layout)) for _ in range(20)]
    async with open_store(layout, SystemClock()) as store:
        pages = store.jobs.page
        failed, lost = [ScriptState.FAILED, ScriptState.LOST], [ScriptState.LOST]
        cases: dict[str, Callable[[], Awaitable[object]]] = {
            "newest": lambda: pages(limit=100),
            "failed or lost": lambda: pages(limit=100, states=failed),
            "succeeded": lambda: pages(limit=100, states=[ScriptState.SUCCEEDED]),
            "a state that none has": lambda: pages(limit=100, states=lost),
            "before the middle": lambda: pages(limit=100, before=finished // 2),
            "failed, before the middle": lambda: pages(limit=100, states=failed, before=finished // 2),
            "offset 1,000": lambda: pages(limit=100, offset=1000),
        }
        spreads = {name: [await timed(case) for _ in range(REPEATS)] for name, case in cases.items()}
        version = [await timed(store.version) for _ in range(REPEATS)]
    return [
        times(f"open, {finished:,} finished", opens, goal="<= 1000"),
        *(times(f"page of 100: {name}", spread, goal="<= 10") for name, spread in spreads.items()),
        times("has anything changed?", version),
    ]


async def fill_history(layout: Layout, finished: int) -> None:
    """Write finished jobs past the store: through it they would take minutes."""
    await open_and_close(layout)
    with closing(sqlite3.connect(layout.database)) as database, database:
        database.execute(FINISHED_ROWS, {"count": finished})
        database.execute(INPUTS)


def a_job() -> tuple[JobId, JobSpec]:
    """Return a small job."""
    return new_job_id(), JobSpec(name="benchmark", script=b"echo hello\n", env={"KEY": "value"})


async def claim(store: Store, job_id: JobId) -> None:
    """Claim one job."""
    assert await store.leader.claim(job_id, boot_id="boot") is not None


async def one_after_another(store: Store, count: int) -> None:
    """Add jobs, each after the one before was acknowledged."""
    for _ in range(count):
        await store.jobs.add([a_job()])


async def all_at_once(store: Store, count: int) -> None:
    """Add jobs from as many callers."""
    await asyncio.gather(*(store.jobs.add([a_job()]) for _ in range(count)))


async def open_and_close(layout: Layout) -> None:
    """Open the store and close it."""
    async with open_store(layout, SystemClock()):
        pass


async def rate(count: int, work: Callable[[], Awaitable[object]]) -> float:
    """Return how many of `count` things a second `work` does."""
    return count / await timed(work)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long `work` takes, seconds."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
