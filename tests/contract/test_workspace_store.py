"""What the workspace ports promise, on the real SQLite adapter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.workspace import DiskId, DiskRecord
from magpie_local.errors import (
    InvalidInput,
    LeadershipLost,
    WorkspaceExists,
    WorkspaceInUse,
    WorkspaceNotFound,
)
from magpie_local.store import open_store

if TYPE_CHECKING:
    from magpie_local.domain.job import JobRecord
    from magpie_local.store import Store


def disk(name: str, parent: str | None = None) -> DiskRecord:
    return DiskRecord(id=DiskId(name), parent=None if parent is None else DiskId(parent))


async def submit(store: Store, workspace_id: str | None = "w", **fields: object) -> JobRecord:
    spec = JobSpec(name="job", script=b"true", stateful=True, workspace_id=workspace_id, **fields)  # type: ignore[arg-type]
    (job,) = await store.jobs.add([(new_job_id(), spec)])
    return job


async def head_of(store: Store, workspace_id: str = "w") -> str | None:
    found = await store.workspaces.get(workspace_id)
    assert found is not None
    return found.head


async def test_a_workspace_is_stored_as_it_was_made(store):
    made = await store.workspaces.create("w", 5, [disk("a"), disk("b", "a")], base_id="other", clean=False)

    assert made == await store.workspaces.get("w")
    assert (made.size_gb, made.head, made.base_id, made.is_clean) == (5, "b", "other", False)
    assert (made.created_at, made.used_at, made.in_use_by, made.waiting) == (1000.0, None, None, 0)
    assert set(await store.workspaces.disks()) == {disk("a"), disk("b", "a")}


async def test_an_id_is_taken_once_and_the_loser_changes_nothing(store):
    await store.workspaces.create("w", 5, [disk("a")])

    with pytest.raises(WorkspaceExists, match="w"):
        await store.workspaces.create("w", 9, [disk("b")])
    assert await store.workspaces.disks() == [disk("a")]


async def test_of_many_that_make_one_workspace_at_once_one_does(layout, clock, store):
    async with open_store(layout, clock) as other:
        results = await asyncio.gather(
            *(each.workspaces.create("w", 5, [disk(f"{name}{number}")])
              for name, each in (("a", store), ("b", other)) for number in range(10)),
            return_exceptions=True,
        )  # fmt: skip

    assert sum(not isinstance(result, WorkspaceExists) for result in results) == 1
    assert len(await store.workspaces.disks()) == 1


async def test_the_most_recently_used_or_made_come_first(store, clock):
    for number, name in enumerate(("old", "older", "used")):
        clock.advance(1)
        await store.workspaces.create(name, 5, [disk(str(number))])
    clock.advance(1)
    await store.leader.workspaces.taken("old", new_job_id())

    assert [one.id for one in await store.workspaces.all()] == ["old", "used", "older"]


async def test_a_change_is_whole_or_nothing(store):
    await store.workspaces.create("w", 5, [disk("a")])
    await store.workspaces.change("w", expected=DiskId("a"), disks=[disk("b", "a")], head=DiskId("b"), add="s")

    with pytest.raises(WorkspaceExists, match="'s'"):
        await store.workspaces.change("w", expected=DiskId("b"), disks=[disk("c", "b")], head=DiskId("c"), add="s")
    with pytest.raises(WorkspaceInUse, match="changed meanwhile"):
        await store.workspaces.change("w", expected=DiskId("a"), disks=[disk("c", "a")], head=DiskId("c"))
    with pytest.raises(WorkspaceNotFound, match="'other'"):
        await store.workspaces.change("w", expected=DiskId("b"), size_gb=9, remove="other")
    with pytest.raises(WorkspaceNotFound, match="nobody"):
        await store.workspaces.change("nobody", expected=None)

    (kept,) = await store.workspaces.snapshots("w")
    assert (kept.name, kept.disk, kept.size_gb, kept.created_at) == ("s", "a", 5, 1000.0)
    found = await store.workspaces.get("w")
    assert (found.head, found.size_gb, len(await store.workspaces.disks())) == ("b", 5, 2)


async def test_what_nothing_needs_is_forgotten_overlays_first_and_once(store):
    await store.workspaces.create("w", 5, [disk("a")])
    await store.workspaces.change("w", expected=DiskId("a"), disks=[disk("b", "a")], head=DiskId("b"), add="s")
    await store.workspaces.change("w", expected=DiskId("b"), disks=[disk("c", "b")], head=DiskId("c"))
    await store.workspaces.change("w", expected=DiskId("c"), disks=[disk("d", "a")], head=DiskId("d"))

    assert await store.workspaces.forget_unreferenced() == ["c", "b"]
    assert await store.workspaces.forget_unreferenced() == []
    assert set(await store.workspaces.disks()) == {disk("a"), disk("d", "a")}


async def test_a_deleted_workspace_leaves_what_others_lie_on(store):
    await store.workspaces.create("w", 5, [disk("a"), disk("b", "a")])
    await store.workspaces.create("clone", 5, [disk("c", "a")])
    await store.workspaces.change("w", expected=DiskId("b"), add="s")

    await store.workspaces.delete("w")
    await store.workspaces.delete("w")

    assert await store.workspaces.forget_unreferenced() == ["b"]
    assert await store.workspaces.snapshots("w") == []
    assert await head_of(store, "clone") == "c"


async def test_a_job_has_its_workspace_from_its_claim_on(store):
    job, waiting = await submit(store, workspace_size_gb=3), await submit(store)
    queued = await store.workspaces.get("w")
    assert (queued.size_gb, queued.head, queued.in_use_by, queued.waiting) == (3, None, None, 2)

    await store.leader.claim(job.id, boot_id="boot")

    found = await store.workspaces.get("w")
    assert (found.in_use_by, found.waiting) == (job.id, 1)
    assert waiting.id not in [one.id for one in await store.leader.queue(10)]
    for verb in (store.workspaces.change("w", expected=None, size_gb=9), store.workspaces.delete("w")):
        with pytest.raises(WorkspaceInUse, match=job.id):
            await verb


async def test_a_workspace_that_a_queued_job_wants_may_change_and_not_go(store):
    await submit(store)

    changed = await store.workspaces.change("w", expected=None, size_gb=20)

    assert changed.size_gb == 20
    with pytest.raises(WorkspaceInUse, match="queued"):
        await store.workspaces.delete("w")


async def test_a_job_without_a_name_for_it_gets_a_workspace_of_its_own_id(store):
    job = await submit(store, None)

    assert job.workspace_id == job.id
    assert (await store.workspaces.get(job.id)).size_gb == 10


async def test_what_the_leader_says_of_a_workspace_is_kept(store, clock):
    job = await submit(store)
    use = store.leader.workspaces
    await use.made("w", [disk("a"), disk("b", "a")])
    clock.advance(5)
    await use.taken("w", job.id)
    taken = await store.workspaces.get("w")
    await use.mounted("w", 1)
    await use.released("w", clean=True)

    found = await store.workspaces.get("w")
    assert (taken.head, taken.is_clean, taken.used_at, taken.last_job) == ("b", False, 1005.0, job.id)
    assert (found.is_clean, found.fsck) == (True, 1)


async def test_a_leader_that_was_succeeded_says_nothing_any_more(layout, clock, store):
    await submit(store)
    async with open_store(layout, clock) as successor:
        await successor.leader.lead()

        with pytest.raises(LeadershipLost):
            await store.leader.workspaces.made("w", [disk("a")])
    assert await head_of(store) is None


async def test_a_base_must_be_there_and_fit(store):
    with pytest.raises(WorkspaceNotFound, match="nobody"):
        await submit(store, base_workspace_id="nobody")
    await store.workspaces.create("base", 7, [disk("a")])
    with pytest.raises(InvalidInput, match="from 7"):
        await submit(store, base_workspace_id="base", workspace_size_gb=6)
    await submit(store, base_workspace_id="base")
    with pytest.raises(InvalidInput, match="it has no base"):
        await submit(store, "base", base_workspace_id="w")

    assert ((await store.workspaces.get("w")).size_gb, (await store.workspaces.get("w")).base_id) == (7, "base")
