"""Writing: shared commits, cancelled callers, full disks, held locks, forks and forgotten closes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.layout import Layout
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.states import EventKind
from magpie_local.errors import ClientClosed, HostDiskFull, StateTooNew, StateUnavailable
from magpie_local.store import open_store
from magpie_local.store.ballast import SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.store import Store
    from magpie_local.testing.clock import ManualClock

    from .conftest import MountTmpfs

SPEC = JobSpec(name="job", script=b"true")
OPEN_AND_LEAVE = """
import asyncio, sys
from pathlib import Path
from magpie_local.domain.ids import new_job_id
from magpie_local.domain.layout import Layout
from magpie_local.domain.spec import JobSpec
from magpie_local.ports.clock import SystemClock
from magpie_local.store.database import Database
from magpie_local.store.store import Store

async def main():
    root = Path(sys.argv[1])
    database = Database(Layout(root, root / "run"))
    await database.open()
    store = Store(database, SystemClock(), "")
    await store.jobs.add([(new_job_id(), JobSpec(name="kept", script=b"true"))])
    return store

kept = asyncio.run(main())
"""


async def test_a_caller_cancelled_at_any_moment_leaves_a_whole_job_or_none_and_a_working_store(store: Store) -> None:
    outcomes = set()
    for steps in range(40):
        job_id = new_job_id()
        task = asyncio.create_task(store.jobs.add([(job_id, SPEC)]))
        for _ in range(steps % 8):
            await asyncio.sleep(0)
        await asyncio.sleep(steps * 0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.jobs.add([(new_job_id(), SPEC)])  # behind it in the queue: now the outcome is decided
        job = await store.jobs.get(job_id)
        assert len(await store.jobs.story(job_id)) == (0 if job is None else 1)
        outcomes.add(job is None)
    assert outcomes == {True, False}


async def test_closing_finishes_the_writes_under_way(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock) as store:
        tasks = [asyncio.create_task(store.jobs.add([(new_job_id(), SPEC)])) for _ in range(50)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks)
    async with open_store(layout, clock) as store:
        assert len(await store.jobs.page(limit=100)) == len(results) == 50


async def test_a_closed_store_says_so(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock) as store:
        pass
    with pytest.raises(ClientClosed):
        await store.jobs.get(new_job_id())
    with pytest.raises(ClientClosed):
        await store.jobs.add([(new_job_id(), SPEC)])


async def test_after_a_fork_the_childs_calls_raise_instead_of_hanging(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(ClientClosed):
        await store.jobs.get(new_job_id())
    monkeypatch.undo()
    assert await store.jobs.get(new_job_id()) is None


async def test_a_write_lock_held_elsewhere_is_a_typed_error_and_the_next_write_works(
    layout: Layout, clock: ManualClock
) -> None:
    async with open_store(layout, clock, busy_timeout=0.2) as store:
        holder = sqlite3.connect(layout.database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="Another process holds the lock"):
            await store.jobs.add([(new_job_id(), SPEC)])
        assert await store.jobs.page(limit=1) == []
        holder.close()
        await store.jobs.add([(new_job_id(), SPEC)])


async def test_a_lock_released_in_time_is_only_a_delay(store: Store, layout: Layout) -> None:
    holder = sqlite3.connect(layout.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    adding = asyncio.create_task(store.jobs.add([(new_job_id(), SPEC)]))
    await asyncio.sleep(0.1)
    holder.close()
    assert len(await adding) == 1


async def test_a_process_whose_database_was_migrated_stands_down(store: Store, layout: Layout) -> None:
    newer = sqlite3.connect(layout.database)
    newer.execute("PRAGMA user_version = 2")
    newer.commit()
    newer.close()
    with pytest.raises(StateTooNew):
        await store.jobs.add([(new_job_id(), SPEC)])
    with pytest.raises(StateTooNew):
        await store.jobs.page(limit=1)


async def test_a_removed_database_is_an_error_and_no_second_one_appears(store: Store, layout: Layout) -> None:
    layout.database.rename(layout.root / "elsewhere.db")
    with pytest.raises(StateUnavailable):
        await store.jobs.add([(new_job_id(), SPEC)])
    assert not layout.database.exists()


# A full disk


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return path


async def test_on_a_full_disk_jobs_are_refused_and_come_again_with_the_space(
    mount_tmpfs: MountTmpfs, clock: ManualClock, tmp_path: Path
) -> None:
    layout = Layout(mount_tmpfs("2m"), tmp_path / "run")
    large = JobSpec(name="large", script=b"x" * 100_000)
    async with open_store(layout, clock) as store:
        [kept] = await store.jobs.add([(new_job_id(), SPEC)])
        filler = fill(layout.root)
        for _ in range(3):
            with pytest.raises(HostDiskFull):
                await store.jobs.add([(new_job_id(), large)])
        assert await store.jobs.page(limit=5) == [kept]
        filler.unlink()
        await store.jobs.add([(new_job_id(), large)])


async def test_every_acknowledged_job_is_there_after_the_disk_filled_up_under_load(
    mount_tmpfs: MountTmpfs, clock: ManualClock, tmp_path: Path
) -> None:
    layout = Layout(mount_tmpfs("2m"), tmp_path / "run")
    jobs = [(new_job_id(), JobSpec(name="job", script=b"x" * 20_000)) for _ in range(150)]
    async with open_store(layout, clock) as store:
        results = await asyncio.gather(*(store.jobs.add([job]) for job in jobs), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    accepted = {result[0].id for result in results if not isinstance(result, BaseException)}
    assert {type(error) for error in refused} == {HostDiskFull}
    async with open_store(layout, clock) as store:
        assert {job.id for job in await store.jobs.page(limit=1000)} == accepted


async def test_on_a_full_disk_the_ballast_is_given_up_to_end_a_job_but_not_to_accept_one(
    mount_tmpfs: MountTmpfs, clock: ManualClock, tmp_path: Path
) -> None:
    layout = Layout(mount_tmpfs("64m"), tmp_path / "run")
    async with open_store(layout, clock) as store:
        await store.leader.lead()
        [job] = await store.jobs.add([(new_job_id(), SPEC)])
        claimed = await store.leader.claim(job.id, boot_id="boot")
        assert claimed is not None
        _, attempt = claimed
        assert layout.ballast.stat().st_size == SIZE
        fill(layout.root)
        with pytest.raises(HostDiskFull):
            await store.jobs.add([(new_job_id(), JobSpec(name="large", script=b"x" * 1_000_000))])
        assert layout.ballast.exists()
        await store.leader.record(attempt, EventKind.NOTE, {"text": "x" * 1_000_000})
        assert not layout.ballast.exists()


async def test_the_ballast_is_made_again_at_an_open_with_room(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock):
        layout.ballast.unlink()
    async with open_store(layout, clock):
        assert layout.ballast.stat().st_size == SIZE


# The end of a process


def test_an_interpreter_that_forgets_to_close_ends_at_once_and_loses_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AND_LEAVE, str(tmp_path / "state")], capture_output=True, timeout=20, check=False
    )
    lasted = time.monotonic() - began
    assert (done.returncode, done.stderr) == (0, b"")
    database = sqlite3.connect(tmp_path / "state" / "magpie.db")
    assert database.execute("SELECT name FROM jobs").fetchall() == [("kept",)]
    database.close()
    assert lasted < 5  # starting Python and importing is most of it; a hang would be 20
