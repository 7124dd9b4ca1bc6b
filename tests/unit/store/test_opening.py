"""Opening: private, and a typed error for whatever is wrong, within a second and without touching the file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.layout import Layout
from magpie_local.domain.spec import JobSpec
from magpie_local.errors import HostDiskFull, StateCorrupt, StateError, StateTooNew, StateUnavailable
from magpie_local.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from magpie_local.testing.clock import ManualClock

    from .conftest import MountTmpfs

SPEC = JobSpec(name="job", script=b"true")


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
async def made(layout: Layout, clock: ManualClock) -> Layout:
    """Return a state directory that has a database with one job."""
    async with open_store(layout, clock) as store:
        await store.jobs.add([(new_job_id(), SPEC)])
    return layout


async def refusal(layout: Layout, clock: ManualClock, kind: type[StateError]) -> StateError:
    """Open, expecting `kind` and no waiting; return the error."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        async with open_store(layout, clock):
            pass
    assert type(caught.value) is kind
    assert time.monotonic() - began < 4
    return caught.value


def pragma(layout: Layout, text: str) -> None:
    connection = sqlite3.connect(layout.database)
    connection.execute(f"PRAGMA {text}")
    connection.commit()
    connection.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*")}


def remount_read_only(point: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
async def test_folder_and_files_are_private_whatever_the_umask(
    tmp_path: Path, clock: ManualClock, umask: Callable[[int], int], mask: int
) -> None:
    umask(mask)
    layout = Layout(tmp_path / "deep" / "state", tmp_path / "run")
    async with open_store(layout, clock) as store:
        await store.jobs.add([(new_job_id(), SPEC)])
    assert set(modes(layout.root).values()) == {0o600}
    assert modes(tmp_path) | {"deep": 0o700, "state": 0o700} == modes(tmp_path)


async def test_a_folder_that_others_may_write_to_is_refused_with_the_command_that_mends_it(
    layout: Layout, clock: ManualClock
) -> None:
    layout.root.mkdir()
    layout.root.chmod(0o770)
    error = await refusal(layout, clock, StateUnavailable)
    assert "chmod 700" in error.hint


async def test_a_folder_that_others_may_only_read_keeps_its_mode(layout: Layout, clock: ManualClock) -> None:
    layout.root.mkdir()
    layout.root.chmod(0o755)
    async with open_store(layout, clock):
        assert layout.root.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
async def test_a_folder_of_another_user_is_refused(made: Layout, clock: ManualClock) -> None:
    os.chown(made.root, 12345, 12345)
    assert "belongs to user 12345" in (await refusal(made, clock, StateUnavailable)).message


async def test_a_database_that_others_may_write_to_is_refused(made: Layout, clock: ManualClock) -> None:
    made.database.chmod(0o666)
    await refusal(made, clock, StateUnavailable)


async def test_a_file_in_place_of_the_folder_is_refused(layout: Layout, clock: ManualClock) -> None:
    layout.root.write_text("x")
    await refusal(layout, clock, StateUnavailable)


@pytest.mark.parametrize(
    "content",
    [b"", b"this is text\n" * 1000, os.urandom(8192), b"SQLite format 3\0", b"\0" * 4096],
    ids=["empty", "text", "noise", "header", "zeros"],
)
async def test_a_file_that_is_no_database_is_reported_and_left_alone(
    made: Layout, clock: ManualClock, content: bytes
) -> None:
    made.database.write_bytes(content)
    await refusal(made, clock, StateCorrupt)
    assert made.database.read_bytes() == content


@pytest.mark.parametrize("kept", [50, 1000, 4096, 20_000])
async def test_a_truncated_database_is_reported_and_left_alone(made: Layout, clock: ManualClock, kept: int) -> None:
    os.truncate(made.database, kept)
    before = digest(made.database)
    await refusal(made, clock, StateCorrupt)
    assert digest(made.database) == before


async def test_a_folder_or_a_link_in_place_of_the_database_is_reported(made: Layout, clock: ManualClock) -> None:
    elsewhere = made.database.rename(made.root / "elsewhere.db")
    made.database.mkdir()
    await refusal(made, clock, StateCorrupt)
    made.database.rmdir()
    made.database.symlink_to(elsewhere)
    await refusal(made, clock, StateCorrupt)


async def test_a_database_of_a_later_version_is_refused_and_left_alone(made: Layout, clock: ManualClock) -> None:
    pragma(made, "user_version = 99")
    before = digest(made.database)
    assert "99" in (await refusal(made, clock, StateTooNew)).message
    assert digest(made.database) == before


async def test_a_database_of_another_program_is_refused_and_left_alone(made: Layout, clock: ManualClock) -> None:
    pragma(made, "application_id = 42")
    before = digest(made.database)
    assert "another program" in (await refusal(made, clock, StateCorrupt)).message
    assert digest(made.database) == before


async def test_a_journal_left_by_a_removed_database_is_not_played_into_the_new_one(
    made: Layout, clock: ManualClock
) -> None:
    made.database.unlink()
    made.database.with_name("magpie.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" * 600)
    async with open_store(made, clock) as store:
        assert await store.jobs.page(limit=1) == []


async def test_a_half_made_database_of_a_killed_process_is_no_obstacle(layout: Layout, clock: ManualClock) -> None:
    layout.root.mkdir(mode=0o700)
    layout.database.with_name("magpie.db.new").write_bytes(b"half")
    async with open_store(layout, clock) as store:
        await store.jobs.add([(new_job_id(), SPEC)])
    assert not layout.database.with_name("magpie.db.new").exists()


async def test_a_path_with_signs_that_mean_something_in_a_uri_works(tmp_path: Path, clock: ManualClock) -> None:
    layout = Layout(tmp_path / "a b?c=d#e%20ü", tmp_path / "run")
    async with open_store(layout, clock) as store:
        await store.jobs.add([(new_job_id(), SPEC)])
    assert layout.database.stat().st_size > 0


async def test_a_copied_folder_gets_an_identity_of_its_own(made: Layout, clock: ManualClock, tmp_path: Path) -> None:
    copy = Layout(tmp_path / "copy", tmp_path / "run")
    shutil.copytree(made.root, copy.root)
    copy.root.chmod(0o700)
    async with open_store(made, clock) as first, open_store(copy, clock) as second:
        assert first.state_id != second.state_id


async def test_a_renamed_folder_keeps_its_identity(made: Layout, clock: ManualClock, tmp_path: Path) -> None:
    async with open_store(made, clock) as store:
        before = store.state_id
    renamed = Layout(made.root.rename(tmp_path / "renamed"), tmp_path / "run")
    async with open_store(renamed, clock) as store:
        assert store.state_id == before


async def test_where_nothing_can_be_written_reads_work_and_writes_are_refused(
    mount_tmpfs: MountTmpfs, clock: ManualClock, tmp_path: Path
) -> None:
    layout = Layout(mount_tmpfs("8m"), tmp_path / "run")
    async with open_store(layout, clock) as store:
        [job] = await store.jobs.add([(new_job_id(), SPEC)])
    remount_read_only(layout.root)
    async with open_store(layout, clock) as store:
        assert await store.jobs.page(limit=1) == [job]
        with pytest.raises(StateUnavailable, match="can only be read"):
            await store.jobs.add([(new_job_id(), SPEC)])


async def test_a_read_only_folder_without_a_database_is_refused(
    mount_tmpfs: MountTmpfs, clock: ManualClock, tmp_path: Path
) -> None:
    layout = Layout(mount_tmpfs("8m"), tmp_path / "run")
    remount_read_only(layout.root)
    await refusal(layout, clock, StateUnavailable)


async def test_a_disk_without_room_for_a_database_is_reported_and_nothing_half_made_stays(
    mount_tmpfs: MountTmpfs, clock: ManualClock, tmp_path: Path
) -> None:
    layout = Layout(mount_tmpfs("32k"), tmp_path / "run")
    await refusal(layout, clock, HostDiskFull)
    assert list(layout.root.iterdir()) == []


async def test_a_lock_held_elsewhere_is_waited_for_and_then_reported(made: Layout, clock: ManualClock) -> None:
    holder = sqlite3.connect(made.database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StateUnavailable, match="Another process holds the lock"):
        async with open_store(made, clock, busy_timeout=0.2):
            pass
    holder.close()


async def test_reading_does_not_wait_for_a_writer(made: Layout, clock: ManualClock) -> None:
    holder = sqlite3.connect(made.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(2), open_store(made, clock) as store:
        assert len(await store.jobs.page(limit=5)) == 1
    holder.close()
