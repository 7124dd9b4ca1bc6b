"""Templates, forks and the pool behind the jobs of one leader; trouble with them costs a job nothing but time."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.ids import VmId, new_job_id
from magpie_local.domain.shape import Shape
from magpie_local.domain.states import ScriptState
from magpie_local.domain.template import RAM
from magpie_local.domain.vm import Condition
from magpie_local.engine.warm import policy
from magpie_local.engine.warm.report import PoolReport, read_report
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.engine.warm.warmer import Origin, Warmer
from magpie_local.errors import HostDiskFull, HostError, SnapshotUnusable
from magpie_local.guest.channel import AgentSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.job import JobRecord


pytestmark = pytest.mark.usefixtures("at_once")

SHAPE = Shape("base", 1, 256)


async def until(holds: Callable[[], bool], within: float = 20.0) -> None:
    """Return as soon as something holds."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.02)


def waiting(driven) -> int:
    """Return how many forks wait, by the leader's report."""
    report = read_report(driven.ports.layout.pool_report) or PoolReport(forks=0, memory_mb=0, used_mb=0)
    return sum(report.waiting.values())


def shelf(driven) -> TemplateShelf:
    return TemplateShelf(driven.ports.layout.templates, driven.ports.clock.boot_id())


async def ran(driven, script: str = "echo hello", **fields) -> JobRecord:
    """Run a job to its end, and return it."""
    job: JobRecord = await driven.ended(await driven.submit(script, **fields))
    assert job.script_state is ScriptState.SUCCEEDED, job
    return job


async def with_template(driven) -> str:
    """Have a template of SHAPE made, and return its key."""
    driven.engine.wishes.add(SHAPE)
    await until(lambda: not driven.engine.wishes.all())
    (one,) = shelf(driven).contents()
    return one.key


async def unclaimed_vm(driven) -> VmId:
    """Wait for a VM that belongs to no job, and return its id."""
    give_up = time.monotonic() + 20
    while True:
        for sight in await driven.hypervisor.sights():
            of_no_job = sight.attempt_id == "pool" or sight.attempt_id.startswith("template.")
            if of_no_job and sight.condition is Condition.RUNNING:
                return VmId(sight.id)
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


async def test_the_first_job_boots_cold_and_leaves_a_template_for_the_next(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        assert (await ran(driven)).start == "cold"
        await until(lambda: not driven.engine.wishes.all())
        assert (await ran(driven)).start == "fork"
        assert waiting(driven) == 0
        assert [one.template.shape for one in shelf(driven).contents() if one.template] == [SHAPE]


async def test_a_template_serves_the_next_engine_too(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
    async with world.engine(warm=templates_only) as driven:
        assert (await ran(driven)).start == "fork"


async def test_the_pool_fills_serves_and_refills(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        first = await ran(driven)
        second = await ran(driven)
        assert [first.start, second.start] == ["pool", "pool"]
        await until(lambda: waiting(driven) == 2)


async def test_private_jobs_boot_cold_whatever_waits(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        assert (await ran(driven, isolation="private")).start == "cold"
        assert waiting(driven) == 2


async def test_another_shape_does_not_get_the_fork_of_this_one(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        assert (await ran(driven, memory_mb=128)).start == "cold"


async def test_without_templates_nothing_is_made(world):
    async with world.engine() as driven:
        assert (await ran(driven)).start == "cold"
        assert not driven.ports.layout.templates.exists()
        assert await driven.engine.work_left() is False


async def test_each_fork_has_an_identity_and_a_log_of_its_own(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        jobs = await asyncio.gather(*(ran(driven, f"echo job {number}") for number in range(8)))
        assert len({job.id for job in jobs}) == 8
        outputs = [await driven.output(job.id) for job in jobs]
        for number, output in enumerate(outputs):
            assert output.count(b"job ") == 1
            assert f"job {number}".encode() in output


async def test_closing_leaves_no_vm_and_no_file_of_the_pool(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
    assert await world.destroy_all() == 0
    assert list(world.layout.warm.glob("*")) == []
    assert list((world.layout.run / "c").glob("*")) == []
    assert not world.layout.pool_report.exists()


async def test_a_job_that_runs_keeps_its_fork_when_the_engine_closes(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        job_id = await driven.submit("sleep 2; echo done")
        await driven.running(job_id)
    async with world.engine(warm=with_pool) as driven:
        job = await driven.ended(job_id)
        assert (job.script_state, job.attempt, job.start) == (ScriptState.SUCCEEDED, 1, "pool")


# What can go wrong


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "no manifest"])
async def test_a_damaged_template_costs_one_cold_boot_and_one_line(world, templates_only, caplog, damage):
    async with world.engine(warm=templates_only) as driven:
        key = await with_template(driven)
        folder = driven.ports.layout.templates / key
        if damage == "truncated":
            os.truncate(folder / RAM, 100)
        elif damage == "flipped":
            (folder / "devices").write_bytes(b"something else")
        elif damage == "deleted":
            (folder / RAM).unlink()
        else:
            shutil.rmtree(folder)
        job = await ran(driven)
        assert (job.start, job.attempt) == ("cold", 1)
        told = [record for record in caplog.records if getattr(record, "action", "") == "template_bad"]
        assert len(told) == (0 if damage == "no manifest" else 1)
        await until(lambda: not driven.engine.wishes.all())
        assert (await ran(driven)).start == "fork"


async def test_a_template_of_another_qemu_is_not_used(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
    world.faults.fingerprint = "another QEMU"
    async with world.engine(warm=templates_only) as driven:
        assert (await ran(driven)).start == "cold"
        await until(lambda: not driven.engine.wishes.all())
        assert (await ran(driven)).start == "fork"


async def test_a_fork_that_does_not_start_is_followed_by_a_cold_boot(world, templates_only, caplog):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        world.faults.fork_error = SnapshotUnusable("the device state does not load")
        job = await ran(driven)
        assert (job.start, job.attempt) == ("cold", 2)
        notes = [event.detail["text"] for event in await driven.story(job.id) if event.kind == "note"]
        assert notes == ["no use of the fork: the device state does not load"]
        assert any("the device state does not load" in record.message for record in caplog.records)


async def test_a_fork_that_stays_silent_is_followed_by_a_cold_boot(world, templates_only, monkeypatch):
    monkeypatch.setattr("magpie_local.engine.limits.FORK_PATIENCE", 0.5)
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        world.faults.fork_silent = True
        job = await ran(driven)
        assert (job.start, job.attempt) == ("cold", 2)


async def test_a_fork_that_dies_before_it_answers_is_followed_by_a_cold_boot(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        world.faults.fork_silent = True
        job_id = await driven.submit("echo hello")
        await driven.hypervisor.kill(await driven.vm(job_id))
        job = await driven.ended(job_id)
        assert (job.script_state, job.start, job.attempt) == (ScriptState.SUCCEEDED, "cold", 2)
        notes = [event.detail["text"] for event in await driven.story(job.id) if event.kind == "note"]
        assert notes == ["no use of the fork: its VM ended before the script began"]


async def test_a_fork_that_refuses_is_followed_by_a_cold_boot(world, templates_only, monkeypatch):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        settle, calls = AgentSession.settle, []

        async def refuse_first(session: AgentSession, *words: Any) -> None:
            calls.append(session)
            if len(calls) == 1:
                raise HostError("EIO")
            await settle(session, *words)

        monkeypatch.setattr(AgentSession, "settle", refuse_first)
        job = await ran(driven)
        assert (job.start, job.attempt) == ("cold", 2)
        await until(lambda: shelf(driven).contents() == [])


async def test_a_fork_whose_kernel_panics_is_followed_by_a_cold_boot(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        world.faults.fork_silent = True
        job_id = await driven.submit("echo hello")
        vm_id = await driven.vm(job_id)
        driven.ports.layout.attempt(job_id, 1).console.write_text("Kernel panic - not syncing")
        await driven.hypervisor.kill(vm_id)
        job = await driven.ended(job_id)
        assert (job.script_state, job.start, job.attempt) == (ScriptState.SUCCEEDED, "cold", 2)


async def test_an_image_built_anew_between_choice_and_start_costs_a_cold_boot_and_no_template(
    world, templates_only, monkeypatch
):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        origin = Warmer.origin

        async def then_rebuild(warmer: Warmer, job: JobRecord) -> Origin:
            found = await origin(warmer, job)
            monkeypatch.setattr(driven.ports.images, "version", "2")
            return found

        monkeypatch.setattr(Warmer, "origin", then_rebuild)
        job = await ran(driven)
        assert (job.start, job.attempt) == ("cold", 2)
        assert len(shelf(driven).contents()) == 1


async def test_after_an_image_was_built_anew_the_pool_holds_forks_of_the_new_one(world, with_pool, monkeypatch):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        monkeypatch.setattr(driven.ports.images, "version", "2")
        await until(lambda: waiting(driven) == 0)
        assert (await ran(driven)).start == "cold"
        await until(lambda: waiting(driven) == 2)
        assert (await ran(driven)).start == "pool"


async def test_a_shape_that_cannot_be_had_does_not_keep_the_others_waiting(world, with_pool):
    shapes = (Shape("missing", 1, 256), SHAPE)
    async with world.engine(warm=replace(with_pool, pool_shapes=shapes)) as driven:
        await until(lambda: waiting(driven) == 2)
        assert (await ran(driven)).start == "pool"


async def test_a_template_whose_forks_do_not_start_is_not_made_again_and_again(world, with_pool):
    world.faults.fork_error = SnapshotUnusable("it does not load")
    async with world.engine(warm=replace(with_pool, pool_shapes=(SHAPE,))) as driven:
        await until(lambda: driven.engine.wishes.refusal(SHAPE) is not None)
        made: list[object] = []
        for _ in range(50):
            made += shelf(driven).contents() or driven.engine.wishes.all()
            await asyncio.sleep(0.02)
        assert made == []


async def test_the_pool_rests_while_a_job_waits_for_memory(world, with_pool):
    async with world.engine(warm=with_pool, memory_mb=512) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        running = await driven.submit("sleep 2")
        queued = await driven.submit("true", memory_mb=512)
        await driven.until(queued, lambda job: job.waiting is not None)
        while len(before := {sight.id for sight in await driven.hypervisor.sights()}) < 3:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.7)
        assert {sight.id for sight in await driven.hypervisor.sights()} == before
        await driven.ended(running)
        await driven.ended(queued)


async def test_a_full_disk_refuses_the_wish_and_no_job(world, templates_only):
    world.faults.freeze_error = HostDiskFull()
    async with world.engine(warm=templates_only) as driven:
        assert (await ran(driven)).start == "cold"
        await until(lambda: not driven.engine.wishes.all())
        assert "disk" in (driven.engine.wishes.refusal(SHAPE) or "")
        assert shelf(driven).contents() == []
        assert list(driven.ports.layout.warm.glob("*")) == []
        # It is not tried again at each job.
        assert (await ran(driven)).start == "cold"
        assert driven.engine.wishes.all() == []


async def test_a_vm_that_dies_on_its_way_to_a_template_is_given_up_at_once(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        world.faults.never_ready = True
        driven.engine.wishes.add(SHAPE)
        driven.engine.bell.ring()
        await driven.hypervisor.kill(await unclaimed_vm(driven))
        await until(lambda: not driven.engine.wishes.all())
        assert "ended before it was ready" in (driven.engine.wishes.refusal(SHAPE) or "")
        assert shelf(driven).contents() == []


async def test_a_fork_that_dies_on_its_way_to_the_pool_does_not_hold_it_up(world, with_pool, caplog):
    async with world.engine(warm=with_pool) as driven:
        world.faults.fork_silent = True
        await with_template(driven)
        await driven.hypervisor.kill(await unclaimed_vm(driven))
        await until(lambda: "for the pool ended before it was ready" in caplog.text)
        await until(lambda: list(driven.ports.layout.warm.glob("*")) == [])


async def test_a_fork_that_dies_in_the_pool_is_replaced_and_met_by_no_job(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        dead = {sight.id for sight in await driven.hypervisor.sights()}
        for vm_id in dead:
            await driven.hypervisor.kill(vm_id)
        folders = driven.ports.layout.warm
        await until(lambda: not dead & {VmId(folder.name) for folder in folders.iterdir()})
        await until(lambda: waiting(driven) == 2)
        job = await ran(driven)
        assert (job.start in ("pool", "fork"), job.attempt) == (True, 1)


async def test_a_job_that_takes_a_dead_fork_gets_another_vm(world, with_pool):
    world.faults.drop_events = True
    async with world.engine(warm=replace(with_pool, pool=1)) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 1)
        (sight,) = await driven.hypervisor.sights()
        await driven.hypervisor.kill(sight.id)
        job = await ran(driven)
        assert job.attempt == 2


async def test_memory_that_runs_short_drains_the_pool(world, with_pool, monkeypatch):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        monkeypatch.setattr("magpie_local.engine.warm.policy.RESERVE", 2.0)
        await until(lambda: waiting(driven) == 0)
        async with asyncio.timeout(20):
            while await driven.hypervisor.sights():
                await asyncio.sleep(0.02)


async def test_the_disk_budget_evicts_the_least_recently_used(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
        (one,) = shelf(driven).contents()
    async with world.engine(warm=replace(templates_only, templates_size=one.size * 3 // 2)) as driven:
        driven.engine.wishes.add(replace(SHAPE, memory_mb=128))
        await until(lambda: not driven.engine.wishes.all())
        assert [one.template.shape.memory_mb for one in shelf(driven).contents() if one.template] == [128]


async def test_a_template_beyond_the_budget_is_refused_and_a_smaller_budget_holds_from_the_start(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        await with_template(driven)
    async with world.engine(warm=replace(templates_only, templates_size=1)) as driven:
        await until(lambda: shelf(driven).contents() == [])
        driven.engine.wishes.add(SHAPE)
        await until(lambda: not driven.engine.wishes.all())
        assert "MAGPIE_TEMPLATES" in (driven.engine.wishes.refusal(SHAPE) or "")
        assert shelf(driven).contents() == []


async def test_a_template_for_which_memory_is_short_is_refused(world, templates_only, monkeypatch):
    monkeypatch.setattr(policy, "RESERVE", 2.0)
    async with world.engine(warm=templates_only) as driven:
        driven.engine.wishes.add(SHAPE)
        await until(lambda: not driven.engine.wishes.all())
        assert "256 MiB of memory" in (driven.engine.wishes.refusal(SHAPE) or "")


async def test_a_host_clock_that_jumps_changes_nothing(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await until(lambda: waiting(driven) == 2)
        for jump in (86400.0 * 400, -86400.0 * 800):
            world.clock.jump(jump)
            job = await ran(driven)
            assert job.start in ("pool", "fork")
            assert job.finished_at is not None
            assert job.started_at is not None
            assert job.finished_at >= job.started_at


async def test_twenty_forks_are_claimed_at_once_by_two_engines(world, with_pool):
    async with world.engine(warm=with_pool) as leading, world.engine(warm=with_pool) as other:
        await with_template(leading)
        await until(lambda: waiting(leading) == 2)
        ids = await asyncio.gather(
            *(driven.submit(f"echo job {number}") for number in range(10) for driven in (leading, other))
        )
        jobs = [await leading.ended(job_id) for job_id in ids]
        assert {job.script_state for job in jobs} == {ScriptState.SUCCEEDED}
        assert "cold" not in {job.start for job in jobs}
    assert await world.destroy_all() == 0


async def test_after_many_starts_nothing_is_left(world, with_pool):
    async with world.engine(warm=with_pool) as driven:
        await with_template(driven)
        await ran(driven)
        await until(lambda: waiting(driven) == 2)
        before = _footprint()
        for _ in range(10):
            await asyncio.gather(*(ran(driven) for _ in range(4)))
        await until(lambda: waiting(driven) == 2)
        after = _footprint()
        assert after[0] <= before[0] + 2, "open files"
        assert after[1] <= before[1] + 2, "tasks"
        assert len(await driven.hypervisor.sights()) == 2
        assert len(list(driven.ports.layout.warm.iterdir())) == 2
        assert len(list((driven.ports.layout.run / "c").iterdir())) == 2


def _footprint() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def test_a_job_whose_secrets_are_lost_fails_and_the_template_stays(world, templates_only):
    async with world.engine(warm=templates_only) as driven:
        key = await with_template(driven)
        box = await asyncio.to_thread(driven.ports.vault.seal, new_job_id(), {"TOKEN": "value"})  # another job's
        job = await driven.ended(await driven.submit("true", secret_names=("TOKEN",), secrets=box))
        assert (job.script_state, job.attempt) == (ScriptState.FAILED, 1)
        assert "Create the job again" in str(job.message)
        assert [one.key for one in shelf(driven).contents()] == [key]
