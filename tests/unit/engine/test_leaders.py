"""Several engines on one state directory: one leads, the work goes on whoever leaves."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.frames import STARTED, log_frame
from magpie_local.domain.ids import new_job_id, new_vm_id
from magpie_local.domain.states import ScriptState, VmState
from magpie_local.domain.vm import Condition, Disk, VmSpec
from magpie_local.testing import FakeHypervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHILD = Path(__file__).with_name("child.py")
FOREVER = "echo begin; sleep 600"


@dataclass
class Child:
    """A process that runs child.py."""

    process: asyncio.subprocess.Process
    input: asyncio.StreamWriter


@asynccontextmanager
async def child_of(world, count: int, tokens: Path) -> AsyncIterator[Child]:
    """Start child.py and wait until it says that it is ready; it is killed at the end."""
    settings = {"MAGPIE_HOME": str(world.layout.root), "MAGPIE_HYPERVISOR": "fake", "MAGPIE_CPUS": "8"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, str(count), tokens, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield Child(process, process.stdin)
    finally:
        if process.returncode is None:
            process.kill()
        process.stdin.close()
        await process.wait()


async def leads(engine, within: float) -> float:
    """Return after how many seconds the engine leads."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while engine.engine.role != "this":
            await engine.engine.bell.wait(engine.engine.bell.listen(), 0.02)
    return time.monotonic() - began


async def test_one_of_two_leads_and_both_know(world):
    async with world.engine() as one:
        await leads(one, 5)
        async with world.engine() as other:
            assert (one.engine.role, other.engine.role) == ("this", "other")
        assert repr(one.engine).startswith("<Engine this leads ")


async def test_the_leadership_passes_on_when_the_leader_closes(world):
    async with AsyncExitStack() as stack:
        async with world.engine() as one:
            await leads(one, 5)
            other = await stack.enter_async_context(world.engine())

        assert await leads(other, 5) < 1.0


async def test_the_leadership_passes_on_within_a_second_after_the_leader_is_killed(world, tmp_path):
    async with child_of(world, 0, tmp_path) as child, world.engine() as engine:
        assert engine.engine.role == "other"
        child.process.kill()

        assert await leads(engine, 5) < 1.0


async def test_who_does_not_lead_does_not_take_the_leadership(world):
    async with world.engine(lead=False) as engine:
        await asyncio.sleep(0.4)

        assert engine.engine.role == "none"


async def test_who_does_not_lead_proves_that_somebody_could(world):
    async with world.engine(lead=False) as engine:
        await asyncio.wait_for(engine.engine.can_accept(), 5)

        assert engine.engine.role == "none"


async def test_a_followers_job_is_driven_by_the_leader(world):
    async with world.engine() as leader, world.engine() as follower:
        await leads(leader, 5)

        job = await follower.ended(await follower.submit("echo hi"))

        assert job.script_state is ScriptState.SUCCEEDED
        assert follower.engine.role == "other"


async def test_a_follower_stops_what_the_leader_runs(world):
    async with world.engine() as leader, world.engine() as follower:
        job_id = await leader.submit(FOREVER)
        await leader.running(job_id)
        await follower.stop(job_id)

        assert (await follower.ended(job_id)).script_state is ScriptState.STOPPED


async def test_a_running_job_is_adopted_by_the_next_leader(world):
    async with world.engine() as first:
        job_id = await first.submit("echo one; sleep 0.5; echo two; exit 4")
        await first.running(job_id)
    async with world.engine() as second:
        job = await second.ended(job_id)

        assert (job.script_state, job.exit_code, job.attempt) == (ScriptState.FAILED, 4, 1)
        assert "adopted" in await second.kinds(job_id)
        assert b"two\n" in await second.output(job_id)


async def test_a_script_that_ends_while_nobody_leads_has_its_true_end(world):
    async with world.engine() as first:
        job_id = await first.submit("sleep 0.3; exit 4")
        started = (await first.running(job_id)).started_at
    await asyncio.sleep(1.0)
    async with world.engine() as second:
        job = await second.ended(job_id)

        assert (job.script_state, job.exit_code) == (ScriptState.FAILED, 4)
        assert job.finished_at - started == pytest.approx(0.3, abs=0.25)


async def test_a_stop_that_is_asked_while_nobody_leads_is_carried_out_gently_by_the_next(world):
    async with world.engine() as first:
        job_id = await first.submit("trap 'echo goodbye; exit 0' TERM; sleep 600 & wait")
        await first.running(job_id)
    async with world.engine(lead=False) as reader:
        await reader.stop(job_id)
        assert (await reader.job(job_id)).script_state is ScriptState.RUNNING
    async with world.engine() as second:
        assert (await second.ended(job_id)).script_state is ScriptState.STOPPED
        assert b"goodbye\n" in await second.output(job_id)


async def test_a_vm_that_died_while_nobody_led_is_lost(world):
    async with world.engine() as first:
        job_id = await first.submit(FOREVER)
        await first.running(job_id)
    assert await world.destroy_all() == 1
    async with world.engine() as second:
        job = await second.ended(job_id)

        assert (job.script_state, job.reason) == (ScriptState.LOST, "vm_killed")


async def test_a_host_that_restarted_is_named_as_the_cause(world):
    async with world.engine() as first:
        job_id = await first.submit(FOREVER)
        await first.running(job_id)
    await world.destroy_all()
    world.clock.boot = "boot-2"
    async with world.engine() as second:
        job = await second.ended(job_id)

        assert (job.script_state, job.reason) == (ScriptState.LOST, "host_reboot")


@pytest.mark.parametrize("log", [b"", b"\xff" * 9, log_frame(STARTED, 1, b"[" * 60_000)], ids=["cut", "noise", "deep"])
async def test_a_log_without_its_beginning_loses_its_own_job_only(world, log):
    async with world.engine() as first:
        bad, good = await first.submit(FOREVER), await first.submit("sleep 0.5")
        for job_id in (bad, good):
            await first.running(job_id)
        vm_id = await first.vm(bad)
    await first.hypervisor.destroy(vm_id)
    world.layout.attempt(bad, 1).log.write_bytes(log)
    async with world.engine() as second:
        lost, kept = await second.ended(bad), await second.ended(good)

        assert (lost.script_state, lost.attempt) == (ScriptState.LOST, 1)
        assert kept.script_state is ScriptState.SUCCEEDED


async def test_a_vm_of_ours_that_no_job_has_is_destroyed_and_a_foreign_one_is_not(world, short):
    async with world.engine() as first:
        await leads(first, 5)
        image = await first.ports.images.resolve("base")
    ours, foreign = [
        VmSpec(
            id=new_vm_id(), state_id=state_id, attempt_id=f"{new_job_id()}.1", vcpus=1, memory_mb=64, image=image,
            disks=(Disk(path=short / "scratch", format="qcow2"),), control=short / f"control{number}",
            log=short / f"log{number}", console=short / f"console{number}", mac="52:54:00:00:00:01",
        )
        for number, state_id in enumerate([world.state_id, "another"])
    ]  # fmt: skip
    outside = FakeHypervisor(world.layout.hypervisor, "another")
    await outside.start(ours)
    await outside.start(foreign)
    async with world.engine() as second:
        await leads(second, 5)
        await second.ended(await second.submit("sleep 0.2"))

        assert (await outside.sight(ours.id)).condition is Condition.GONE
        assert (await outside.sight(foreign.id)).condition is Condition.RUNNING
    await outside.destroy(foreign.id)


async def test_files_that_a_cut_delete_left_are_swept(world):
    async with world.engine() as first:
        kept = await first.ended(await first.submit("true"))
    left = world.layout.job(new_job_id())
    (left / "1").mkdir(parents=True)
    async with world.engine() as second:
        await leads(second, 5)
        await second.ended(await second.submit("true"))

        assert not left.exists()
        assert world.layout.job(kept.id).exists()


async def test_jobs_start_in_the_order_in_which_they_were_accepted(world):
    async with world.engine(cpus=1) as engine:
        jobs = [await engine.submit("true") for _ in range(5)]
        ended = [await engine.ended(job_id) for job_id in jobs]

        starts = [job.started_at for job in ended]
        assert starts == sorted(starts)


async def test_a_job_that_waits_says_why_until_it_starts(world):
    async with world.engine(cpus=2) as engine:
        first = await engine.submit(FOREVER, vcpus=2)
        await engine.running(first)
        second = await engine.submit("true", vcpus=1)

        waiting = await engine.until(second, lambda job: job.waiting is not None)
        await engine.stop(first)
        ended = await engine.ended(second)

        assert waiting.waiting == "waits for CPUs: wants 1, 0 of 2 are free"
        assert (ended.script_state, ended.waiting) == (ScriptState.SUCCEEDED, None)


async def test_a_job_larger_than_the_host_runs_alone(world):
    async with world.engine(cpus=2, memory_mb=1024) as engine:
        small = await engine.submit("sleep 0.3")
        huge = await engine.submit("true", vcpus=3, memory_mb=4096)
        late = await engine.submit("true")

        ended = [await engine.ended(job_id) for job_id in (small, huge, late)]

        assert [job.script_state for job in ended] == [ScriptState.SUCCEEDED] * 3
        assert ended[0].finished_at <= ended[1].started_at
        assert ended[1].finished_at <= ended[2].started_at


async def test_a_queued_job_is_cancelled_without_ever_having_a_vm(world):
    async with world.engine(cpus=1) as engine:
        first = await engine.submit(FOREVER)
        await engine.running(first)
        second = await engine.submit("true")

        cancelled = await engine.stop(second)

        assert (cancelled.script_state, cancelled.vm_state) == (ScriptState.CANCELLED, VmState.NONE)
        assert await engine.kinds(second) == ["accepted", "cancelled"]


@pytest.mark.parametrize(("processes", "each"), [(2, 50), (4, 25)])
async def test_jobs_of_many_processes_start_exactly_once_each(world, tmp_path, processes, each):
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(child_of(world, each, tmp_path)) for _ in range(processes)]
        for child in children:
            child.input.write(b"go\n")
        assert await asyncio.gather(*(child.process.wait() for child in children)) == [0] * processes
    async with world.engine(lead=False) as reader:
        jobs = await reader.ports.jobs.page(limit=1000)

        assert len(jobs) == len(list(tmp_path.iterdir())) == processes * each
        assert {(job.script_state, job.attempt) for job in jobs} == {(ScriptState.SUCCEEDED, 1)}
