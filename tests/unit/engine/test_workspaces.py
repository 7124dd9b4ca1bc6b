"""What is done with workspaces: what each verb does, refuses, and leaves behind when it is killed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.spec import JobSpec
from magpie_local.engine.workspaces import Workspaces
from magpie_local.engine.workspaces.contents import MAX_CHAIN
from magpie_local.engine.workspaces.locking import WorkspaceLock, holding
from magpie_local.engine.workspaces.making import Making
from magpie_local.errors import (
    HostDiskFull,
    HostError,
    InvalidInput,
    WorkspaceDamaged,
    WorkspaceExists,
    WorkspaceInUse,
    WorkspaceNotFound,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.domain.ids import JobId
    from magpie_local.domain.workspace import DiskId
    from magpie_local.engine.context import Ports

CHILD = Path(__file__).with_name("workspace_child.py")


class Shop:
    """A state directory, its workspaces, and what the disks hold: a word that a test wrote in a job's stead."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.layout = ports.layout
        self.store = ports.workspaces
        self.do = Workspaces(ports)

    async def write(self, workspace_id: str, word: str) -> None:
        found = await self.do.get(workspace_id)
        assert found.head is not None
        path = self.layout.disk(found.head)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"written": word}))

    async def content(self, workspace_id: str) -> str | None:
        found = await self.do.get(workspace_id)
        return self.read(found.head) if found.head else None

    def read(self, disk: DiskId) -> str | None:
        path: Path | None = self.layout.disk(disk)
        while path is not None:
            facts = json.loads(path.read_text())
            if "written" in facts:
                return str(facts["written"])
            path = path.with_name(facts["base"]) if facts["base"] else None
        return None

    async def kept(self, workspace_id: str) -> dict[str, str | None]:
        return {one.name: self.read(one.disk) for one in await self.store.snapshots(workspace_id)}

    async def queue(self, workspace_id: str, **fields: Any) -> JobId:
        """Accept a job that wants a workspace."""
        spec = JobSpec(name="job", script=b"true", stateful=True, workspace_id=workspace_id, **fields)
        (job,) = await self.ports.jobs.add([(new_job_id(), spec)])
        return job.id

    async def take(self, workspace_id: str, **fields: Any) -> JobId:
        """Have a job that has a workspace."""
        job_id = await self.queue(workspace_id, **fields)
        assert await self.ports.leader.claim(job_id, boot_id="boot") is not None
        return job_id

    def files(self) -> set[str]:
        return {path.name for path in self.layout.workspaces.glob("*.qcow2")}

    async def check(self) -> None:
        """Assert that each row's files are there and no other is."""
        named = {self.layout.disk(disk.id).name for disk in await self.store.disks()}
        assert self.files() == named


@pytest.fixture
async def shop(world) -> AsyncIterator[Shop]:
    async with world.engine(lead=False) as driven:
        await driven.ports.leader.lead()
        yield Shop(driven.ports)


@pytest.fixture
async def used(shop: Shop) -> Shop:
    """The workspace `w` of 5 GiB, with a snapshot `old` that holds "old", and "new" by now."""
    await shop.do.create("w", 5)
    await shop.write("w", "old")
    await shop.do.snapshot("w", "old")
    await shop.write("w", "new")
    return shop


async def test_a_new_workspace_is_empty_and_as_large_as_asked(shop):
    await shop.do.create("w", 5)
    await shop.do.create("usual")

    assert [(one.id, one.size_gb, one.is_clean) for one in await shop.store.all()] == [
        ("usual", 10, True), ("w", 5, True)
    ]  # fmt: skip
    assert await shop.content("w") is None
    assert shop.layout.workspaces.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in shop.layout.workspaces.iterdir()} == {0o600}
    await shop.check()


async def test_an_id_is_taken_once(used):
    await used.do.clone("w", "w2")
    for verb in (used.do.create("w"), used.do.clone("w", "w2")):
        with pytest.raises(WorkspaceExists):
            await verb
    with pytest.raises(WorkspaceExists, match="w2"):
        await used.do.create("w2", 5, "w")
    with pytest.raises(WorkspaceExists, match="w2"):
        await used.do.import_(Path("/nothing"), "w2")
    assert await used.content("w") == "new"
    await used.check()


async def test_a_snapshot_keeps_what_was_there(used):
    assert await used.content("w") == "new"
    assert await used.kept("w") == {"old": "old"}


async def test_a_rollback_brings_back_what_the_snapshot_keeps_and_drops_the_rest(used):
    await used.do.resize("w", 9)

    await used.do.rollback("w", "old")

    assert (await used.content("w"), (await used.do.get("w")).size_gb) == ("old", 5)
    assert len(used.files()) == 2
    await used.write("w", "newer")
    await used.do.rollback("w", "old")
    assert await used.content("w") == "old"
    await used.check()


async def test_a_snapshots_name_is_taken_once_and_unknown_ones_are_told(used):
    with pytest.raises(WorkspaceExists, match="old"):
        await used.do.snapshot("w", "old")
    for verb in (used.do.rollback("w", "other"), used.do.remove_snapshot("w", "other")):
        with pytest.raises(WorkspaceNotFound, match="'other'"):
            await verb
    with pytest.raises(InvalidInput, match="name"):
        await used.do.snapshot("w", "../old")
    assert await used.content("w") == "new"
    await used.check()


async def test_a_snapshot_that_is_forgotten_frees_what_only_it_needed(used):
    await used.do.snapshot("w", "later")
    await used.do.rollback("w", "old")
    assert len(used.files()) == 3

    await used.do.remove_snapshot("w", "later")

    assert (await used.content("w"), await used.kept("w")) == ("old", {"old": "old"})
    assert len(used.files()) == 2
    await used.check()


async def test_a_clone_and_its_origin_go_on_independently(used):
    await used.do.clone("w", "copy")
    await used.write("copy", "copied")
    await used.write("w", "newest")

    assert (await used.content("copy"), await used.content("w")) == ("copied", "newest")
    assert await used.kept("copy") == {}
    await used.do.delete("w")
    assert await used.content("copy") == "copied"
    await used.check()


async def test_a_clone_of_a_clone_that_nobody_wrote_to_does_not_lengthen_the_chain(used):
    await used.do.clone("w", "a")
    before = len(used.files())

    for name in ("b", "c", "d"):
        await used.do.clone("w", name)

    assert len(used.files()) == before + 3
    assert await used.content("d") == "new"


async def test_a_base_stays_and_what_begins_with_it_may_be_larger(used):
    await used.do.create("derived", 8, "w")
    await used.write("derived", "mine")

    derived = await used.do.get("derived")
    assert (derived.size_gb, derived.base_id, await used.content("w")) == (8, "w", "new")
    with pytest.raises(InvalidInput, match="from 5"):
        await used.do.create("smaller", 4, "w")
    with pytest.raises(InvalidInput, match="of itself"):
        await used.do.create("w", 8, "w")
    with pytest.raises(WorkspaceNotFound, match="nobody"):
        await used.do.create("derived2", 8, "nobody")


async def test_a_resize_grows_and_never_shrinks(used):
    await used.do.resize("w", 7)

    with pytest.raises(InvalidInput, match="from 7"):
        await used.do.resize("w", 6)
    assert ((await used.do.get("w")).size_gb, await used.content("w")) == (7, "new")


async def test_an_export_comes_back_as_a_workspace(used, tmp_path):
    await used.do.export("w", tmp_path / "file")
    await used.do.import_(tmp_path / "file", "back")

    back = await used.do.get("back")
    assert (await used.content("back"), back.size_gb, back.is_clean) == ("new", 5, False)
    with pytest.raises(InvalidInput, match="nothing is overwritten"):
        await used.do.export("w", tmp_path / "file")
    with pytest.raises(InvalidInput, match="no such folder"):
        await used.do.export("w", tmp_path / "none" / "file")
    await used.check()


async def test_a_delete_leaves_nothing(used):
    await used.do.delete("w")

    assert list(used.layout.workspaces.iterdir()) == []
    with pytest.raises(WorkspaceNotFound):
        await used.do.delete("w")


@pytest.mark.parametrize("taken", [True, False], ids=["running", "queued"])
async def test_what_a_job_has_or_waits_for_is_not_deleted(used, taken):
    await (used.take if taken else used.queue)("w")

    with pytest.raises(WorkspaceInUse):
        await used.do.delete("w")
    assert await used.content("w") == "new"


async def test_nothing_is_done_with_a_workspace_that_a_job_has(used, tmp_path):
    job_id = await used.take("w")
    before = used.files()

    for verb in (
        used.do.snapshot("w", "s"), used.do.rollback("w", "old"), used.do.remove_snapshot("w", "old"),
        used.do.clone("w", "c"), used.do.create("c", 9, "w"), used.do.resize("w", 9),
        used.do.export("w", tmp_path / "f"),
    ):  # fmt: skip
        with pytest.raises(WorkspaceInUse, match=job_id):
            await verb
    assert (used.files(), await used.content("w")) == (before, "new")


async def test_a_job_that_is_claimed_in_the_middle_wins_and_nothing_is_left(used, monkeypatch):
    overlay = used.ports.disks.overlay

    async def claimed(*args: Any, **kwargs: Any) -> None:
        await overlay(*args, **kwargs)
        await used.take("w")

    monkeypatch.setattr(used.ports.disks, "overlay", claimed)
    with pytest.raises(WorkspaceInUse):
        await used.do.snapshot("w", "s")

    assert await used.content("w") == "new"
    await used.check()


async def test_a_full_disk_leaves_the_workspace_and_no_files(used):
    used.ports.disks.full = True

    for verb in (
        used.do.snapshot("w", "s"),
        used.do.clone("w", "c"),
        used.do.create("n"),
        used.do.rollback("w", "old"),
    ):
        with pytest.raises(HostDiskFull):
            await verb
    assert (await used.content("w"), await used.kept("w")) == ("new", {"old": "old"})
    await used.check()


@pytest.mark.parametrize("how", ["missing", "empty", "foreign"])
async def test_a_damaged_disk_is_told_and_never_made_anew(used, how):
    found = await used.do.get("w")
    path = used.layout.disk(found.head)
    path.unlink()
    if how != "missing":
        path.write_text("" if how == "empty" else "[]")

    for verb in (used.do.prepare("w"), used.do.snapshot("w", "s"), used.do.clone("w", "c"), used.do.resize("w", 9)):
        with pytest.raises(WorkspaceDamaged, match=path.name):
            await verb
    assert path.exists() == (how != "missing")
    await used.do.rollback("w", "old")
    assert await used.content("w") == "old"


async def test_a_damaged_snapshot_does_not_replace_what_is_there(used):
    (kept,) = await used.store.snapshots("w")
    # It says that it lies on another disk: an overlay on it could be made all the same.
    used.layout.disk(kept.disk).write_text(json.dumps({"base": "other.qcow2", "size_gb": 5}))
    before = (await used.do.get("w")).head

    with pytest.raises(WorkspaceDamaged):
        await used.do.rollback("w", "old")
    assert (await used.do.get("w")).head == before
    await used.check()


async def test_a_disk_smaller_than_its_row_says_is_damaged(used):
    found = await used.do.get("w")
    path = used.layout.disk(found.head)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size_gb": 4}))

    with pytest.raises(WorkspaceDamaged, match="has 4 GiB, and should have 5"):
        await used.do.prepare("w")


async def test_a_chain_that_is_too_long_is_refused_with_a_cure(used):
    for number in range(MAX_CHAIN - 2):
        await used.do.snapshot("w", f"s{number}")

    with pytest.raises(HostError, match="export"):
        await used.do.snapshot("w", "one-too-many")
    assert await used.content("w") == "new"


async def test_usage_tells_what_is_shared(used):
    alone = (await used.do.usage())["w"]
    await used.do.clone("w", "copy")
    both = await used.do.usage()

    assert (alone.shared, alone.snapshots) == (0, 1)
    assert alone.own > 0
    assert both["copy"].shared > 0
    assert both["copy"].snapshots == 0
    assert both["w"].own + both["w"].shared >= alone.own


class TestPrepare:
    """What a leader asks for before it starts a VM."""

    async def test_the_first_job_has_the_disk_made_once(self, shop):
        await shop.take("w", workspace_size_gb=3)

        first, again = await shop.do.prepare("w"), await shop.do.prepare("w")

        found = await shop.do.get("w")
        assert first == again == (shop.layout.disk(found.head), False)
        assert json.loads(first.head.read_text())["size_gb"] == 3
        await shop.check()

    async def test_a_disk_that_was_not_let_go_of_is_checked(self, used):
        job_id = await used.take("w")
        await used.ports.workspace_use.taken("w", job_id)

        prepared = await used.do.prepare("w")

        assert prepared.check
        assert used.ports.disks.checked == [prepared.head]
        await used.ports.workspace_use.released("w", clean=True)
        assert not (await used.do.prepare("w")).check

    async def test_a_base_is_frozen_and_used_at_once(self, used):
        for name in ("a", "b"):
            await used.take(name, base_workspace_id="w", workspace_size_gb=8)
        frozen = (await used.do.get("w")).head

        await asyncio.gather(used.do.prepare("a"), used.do.prepare("b"))
        await used.write("a", "from a")

        assert [await used.content(name) for name in ("a", "b", "w")] == ["from a", "new", "new"]
        assert (await used.do.get("w")).head != frozen
        parents = {disk.id: disk.parent for disk in await used.store.disks()}
        assert {parents[(await used.do.get(name)).head] for name in ("a", "b", "w")} == {frozen}
        await used.check()

    async def test_a_base_that_has_no_disk_yet_gets_one(self, shop):
        await shop.queue("base", workspace_size_gb=4)
        await shop.take("w", base_workspace_id="base")

        await shop.do.prepare("w")

        assert (await shop.do.get("base")).head is not None
        await shop.check()

    async def test_a_base_that_was_not_let_go_of_has_its_overlay_checked(self, used):
        await used.ports.workspace_use.released("w", clean=False)
        await used.take("a", base_workspace_id="w")

        assert (await used.do.prepare("a")).check

    async def test_a_base_that_a_job_has_is_refused(self, used):
        job_id = await used.take("w")
        await used.take("a", base_workspace_id="w")

        with pytest.raises(WorkspaceInUse, match=job_id):
            await used.do.prepare("a")
        await used.check()

    async def test_it_waits_for_one_who_changes_the_workspace(self, used):
        await used.take("w")
        async with holding(used.layout, "w", 0):
            waiting = asyncio.create_task(used.do.prepare("w"))
            assert used.do.is_busy("w")
            done, _ = await asyncio.wait({waiting}, timeout=0.1)
            assert not done
        assert (await waiting).head.exists()
        assert not used.do.is_busy("w")

    async def test_a_workspace_that_is_gone_is_told(self, shop):
        with pytest.raises(WorkspaceNotFound, match="'w'"):
            await shop.do.prepare("w")


class TestSweep:
    """What a crash has left goes, and nothing else."""

    async def test_files_without_a_row_go(self, used):
        for name in ("left.qcow2", "gone.lock", "notes.txt"):
            (used.layout.workspaces / name).write_text("{}")

        assert await used.do.sweep() == ["gone.lock", "left.qcow2"]
        assert (used.layout.workspaces / "notes.txt").exists()
        assert await used.content("w") == "new"
        await used.check()

    async def test_what_somebody_makes_stays(self, used):
        async with Making(used.layout) as making:
            disk = making.new(None)
            assert await used.do.sweep() == []
            assert used.layout.disk(disk.id).exists()
        assert not used.layout.disk(disk.id).exists()

    async def test_what_got_its_row_while_the_sweep_looked_stays(self, used, monkeypatch):
        making = Making(used.layout)
        disk = making.new(None)
        await used.ports.disks.blank(used.layout.disk(disk.id), 1)
        acquire = WorkspaceLock.acquire

        def late(lock: WorkspaceLock) -> bool:
            # The maker ends between the sweep's first look at the rows and its try for the lock.
            if lock._path == used.layout.disk(disk.id) and making._locks:
                name = {"id": "late", "size": 1, "head": disk.id}
                add_row(used.layout.database, name)
                for one in making._locks.values():
                    one.release()
            return acquire(lock)

        monkeypatch.setattr(WorkspaceLock, "acquire", late)
        assert await used.do.sweep() == []
        assert used.layout.disk(disk.id).exists()

    async def test_a_state_directory_without_workspaces_is_fine(self, shop):
        assert await shop.do.sweep() == []


def add_row(database: Path, name: dict[str, object]) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("INSERT INTO disks (id) VALUES (:head)", name)
        db.execute("INSERT INTO workspaces (id, size_gb, head, created_at) VALUES (:id, :size, :head, 1)", name)


async def test_a_lock_whose_file_was_removed_is_none(used, monkeypatch):
    """One who opened the file before it was removed must not hold a lock that others do not see."""
    path = used.layout.workspace_lock("w")
    first, second = WorkspaceLock(path), WorkspaceLock(path)
    assert first.acquire()
    assert not second.acquire()
    flock = fcntl.flock

    def too_late(descriptor: int, how: int) -> None:
        first.discard()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert second.acquire()
    monkeypatch.undo()

    assert not WorkspaceLock(path).acquire()
    second.release()


class TestKills:
    """SIGKILL between any two steps: the workspace holds what it held or what it should, and a sweep clears up."""

    #: Verb and arguments; what `w` may hold afterwards; the points on its way.
    CASES = (
        ("snapshot w kept", {"new"}, "W1.after W2.after"),
        ("rollback w old", {"new", "old"}, "W1.after W2.after W3.after"),
        ("remove_snapshot w old", {"new"}, "W2.after W3.after"),
        ("clone w copy", {"new"}, "W1.after W2.after W1.after:2 W2.after:2"),
        ("create other 3", {"new"}, "W1.after W2.after"),
        ("create other 9 w", {"new"}, "W1.after W2.after W1.after:2 W2.after:2"),
        ("resize w 9", {"new"}, "W4.after"),
        ("prepare first", {"new"}, "W1.after W2.after"),
        ("prepare derived", {"new"}, "W1.after W2.after W1.after:2 W2.after:2"),
        ("delete w", {"new", None}, "W2.after W3.after"),
    )

    @pytest.mark.parametrize(
        ("command", "may_hold", "point"),
        [(command, held, point) for command, held, points in CASES for point in points.split()],
    )
    async def test_a_kill_loses_nothing(self, used, command, may_hold, point):
        await used.take("first", workspace_size_gb=2)
        await used.take("derived", base_workspace_id="w")

        assert await run_child(used, command, crash_at=point) == (-signal.SIGKILL, "")

        ids = {one.id for one in await used.store.all()}
        assert {None if "w" not in ids else await used.content("w")} <= may_hold
        assert {*(await used.kept("w")).values()} <= {"old", "new"}
        await used.do.sweep()
        await used.check()
        for one in await used.store.all():
            if one.head is not None and one.in_use_by is None:
                await used.do.snapshot(one.id, "after-the-kill")
        code, said = await run_child(used, command)
        assert code == 0
        assert said in ("done", "WorkspaceExists", "WorkspaceNotFound")
        await used.check()

    async def test_of_four_processes_that_make_the_same_workspace_one_does(self, shop):
        ends = await asyncio.gather(*(run_child(shop, "create same 2") for _ in range(4)))

        said = sorted(text for _, text in ends)
        assert said[-1] == "done"
        assert set(said[:-1]) <= {"WorkspaceExists", "WorkspaceInUse"}
        assert len(shop.files()) == 1
        await shop.check()


async def run_child(shop: Shop, command: str, *, crash_at: str = "") -> tuple[int, str]:
    """Run a verb in another process; return its exit status and what it said."""
    settings = {"MAGPIE_HOME": str(shop.layout.root), "MAGPIE_HYPERVISOR": "fake", "MAGPIE_CONFIG": ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, *command.split(), stdout=subprocess.PIPE,
        env={**os.environ, **settings, "MAGPIE_CRASH_AT": crash_at},
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_errors_of_ids_come_before_any_file(shop):
    for bad in ("../x", "", "A", "-rf", "a/b", "x" * 64, "é", None, 5):
        for verb in (shop.do.create(bad), shop.do.delete(bad), shop.do.clone("w", bad), shop.do.prepare(bad)):
            with pytest.raises(InvalidInput, match="workspace_id"):
                await verb
    assert not shop.layout.workspaces.exists()


async def test_a_commit_whose_answer_is_lost_keeps_the_files(used, monkeypatch):
    """A caller that is cancelled while the rows are written must not remove what they name."""
    change = used.store.change

    async def commits_and_is_cancelled(*args: Any, **kwargs: Any) -> None:
        await change(*args, **kwargs)
        raise asyncio.CancelledError

    monkeypatch.setattr(used.store, "change", commits_and_is_cancelled)
    with pytest.raises(asyncio.CancelledError):
        await used.do.snapshot("w", "s")
    monkeypatch.undo()

    assert (await used.content("w"), (await used.kept("w"))["s"]) == ("new", "new")
    await used.do.sweep()
    await used.check()
