"""The life of a job under one engine, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from magpie_local.domain.frames import GAP
from magpie_local.domain.ids import new_job_id
from magpie_local.domain.sizes import KIB
from magpie_local.domain.states import ScriptState, VmState
from magpie_local.domain.vm import Condition
from magpie_local.errors import HostError, HypervisorUnavailable

FOREVER = "echo begin; sleep 600"


async def test_a_job_runs_to_its_end_and_tells_its_story(world):
    async with world.engine() as engine:
        job_id = await engine.submit("echo hello; exit 3")

        job = await engine.ended(job_id)

        assert (job.script_state, job.vm_state, job.exit_code) == (ScriptState.FAILED, VmState.GONE, 3)
        assert await engine.kinds(job_id) == [
            "accepted", "claimed", "vm_booting", "vm_ready", "started", "exited", "vm_stopping", "vm_gone",
        ]  # fmt: skip
        assert b"hello\n" in await engine.output(job_id)


async def test_a_job_that_ended_leaves_its_log_and_console_and_nothing_else(world):
    async with world.engine() as engine:
        job_id = await engine.submit("true")

        await engine.ended(job_id)

        files = sorted(path.name for path in world.layout.attempt(job_id, 1).folder.iterdir())
        assert files == ["console.log", "log"]
        assert list((world.layout.run / "c").iterdir()) == []
        assert await world.destroy_all() == 0


async def test_times_are_in_order(world):
    async with world.engine() as engine:
        job = await engine.ended(await engine.submit("sleep 0.1"))

        assert job.created_at <= job.started_at <= job.finished_at
        assert job.finished_at - job.started_at >= 0.1


async def test_the_guest_ends_a_script_at_its_timeout(world):
    async with world.engine() as engine:
        job = await engine.ended(await engine.submit(FOREVER, timeout=0.3))

        assert (job.script_state, job.exit_code, job.reason) == (ScriptState.TIMED_OUT, 124, None)


async def test_the_engine_ends_a_script_when_the_guest_does_not(world):
    async with world.engine(deadline_slack=0.2) as engine:
        job_id = await engine.submit(FOREVER, timeout=0.5)
        await engine.running(job_id)
        await engine.hypervisor.pause(await engine.vm(job_id))

        job = await engine.ended(job_id)

        assert (job.script_state, job.exit_code, job.reason) == (ScriptState.TIMED_OUT, 124, "engine_deadline")


async def test_a_guest_that_never_answers_is_a_boot_timeout(world):
    world.faults.never_ready = True
    async with world.engine(boot_timeout=0.5) as engine:
        job = await engine.ended(await engine.submit("true"), within=5.0)

        assert (job.script_state, job.reason, job.attempt) == (ScriptState.FAILED, "boot_timeout", 1)


async def test_a_vm_that_is_killed_under_its_script_is_lost(world):
    async with world.engine() as engine:
        job_id = await engine.submit(FOREVER)
        await engine.running(job_id)
        await engine.hypervisor.kill(await engine.vm(job_id))

        job = await engine.ended(job_id)

        assert (job.script_state, job.reason, job.attempt) == (ScriptState.LOST, "vm_killed", 1)


async def test_a_killed_vm_is_noticed_although_its_event_is_lost(world):
    world.faults.drop_events = True
    async with world.engine() as engine:
        job_id = await engine.submit(FOREVER)
        await engine.running(job_id)
        await engine.hypervisor.kill(await engine.vm(job_id))

        job = await engine.ended(job_id)

        assert job.script_state is ScriptState.LOST


async def test_a_vm_that_is_killed_before_its_script_is_tried_again_and_then_given_up(world):
    world.faults.boot_delay = 60.0
    async with world.engine(max_starts=3) as engine:
        job_id = await engine.submit("true")
        for number in (1, 2, 3):
            await engine.until(job_id, lambda job, n=number: job.attempt == n and job.vm_state is VmState.BOOTING)
            await engine.hypervisor.kill(await engine.vm(job_id))

        job = await engine.ended(job_id)

        assert (job.script_state, job.reason, job.attempt) == (ScriptState.FAILED, "start_failed", 3)
        assert (await engine.kinds(job_id)).count("requeued") == 2


async def test_a_vm_that_is_killed_once_before_its_script_costs_an_attempt_only(world):
    world.faults.boot_delay = 60.0
    async with world.engine() as engine:
        job_id = await engine.submit("true")
        vm_id = await engine.vm(job_id)
        await engine.until(job_id, lambda job: job.vm_state is VmState.BOOTING)
        world.faults.boot_delay = 0.0
        await engine.hypervisor.kill(vm_id)

        job = await engine.ended(job_id)

        assert (job.script_state, job.attempt) == (ScriptState.SUCCEEDED, 2)


@pytest.mark.parametrize(
    ("shown", "reason"), [(Condition.DISK_ERROR, "host_disk_full"), (Condition.CRASHED, "vm_error")]
)
async def test_a_vm_that_stands_still_for_good_is_ended_with_the_reason(world, shown, reason):
    async with world.engine() as engine:
        job_id = await engine.submit(FOREVER)
        await engine.running(job_id)
        await engine.hypervisor.pause(await engine.vm(job_id), shown)

        job = await engine.ended(job_id)

        assert (job.script_state, job.reason) == (ScriptState.FAILED, reason)


async def test_a_vm_that_is_paused_for_a_while_goes_on(world):
    async with world.engine() as engine:
        job_id = await engine.submit("sleep 0.3; echo done")
        await engine.running(job_id)
        vm_id = await engine.vm(job_id)
        await engine.hypervisor.pause(vm_id)
        await asyncio.sleep(0.5)
        await engine.hypervisor.resume(vm_id)

        job = await engine.ended(job_id)

        assert job.script_state is ScriptState.SUCCEEDED


async def test_a_log_beyond_its_hard_limit_ends_the_vm(world):
    async with world.engine() as engine:
        # Behind the agent's back, as a guest's root can.
        flood = "head -c 3000000 /dev/zero >> ../log; sleep 600"
        job_id = await engine.submit(flood, log_limit=64 * KIB)

        job = await engine.ended(job_id)

        assert (job.script_state, job.reason) == (ScriptState.FAILED, "log_flood")


async def test_the_agent_keeps_a_log_within_its_limit(world):
    async with world.engine() as engine:
        script = "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"
        job = await engine.ended(await engine.submit(script, log_limit=128 * KIB))
        log = await engine.output(job.id)

        assert job.script_state is ScriptState.SUCCEEDED
        assert len(log) < 128 * KIB + 4 * KIB
        assert b"first\n" in log
        assert b"last\n" in log
        assert bytes([GAP]) in log


async def test_a_start_that_fails_ends_the_job_with_the_cause(world):
    world.faults.start_error = HostError("No QEMU binary.", hint="")
    async with world.engine() as engine:
        job = await engine.ended(await engine.submit("true"))

        assert (job.script_state, job.reason, job.message) == (ScriptState.FAILED, "start_failed", "No QEMU binary.")


async def test_a_bug_on_the_way_ends_the_job_and_not_the_engine(world):
    world.faults.start_error = ZeroDivisionError("a bug")
    async with world.engine() as engine:
        broken = await engine.ended(await engine.submit("true"))
        world.faults.start_error = None
        job = await engine.ended(await engine.submit("true"))

        assert (broken.script_state, broken.message) == (ScriptState.FAILED, "a bug")
        assert job.script_state is ScriptState.SUCCEEDED


async def test_a_full_disk_fails_the_job_by_name(world):
    world.disks.full = True
    async with world.engine() as engine:
        job = await engine.ended(await engine.submit("true"))

        assert (job.script_state, job.reason) == (ScriptState.FAILED, "host_disk_full")


async def test_an_image_that_is_not_there_any_more_fails_the_job_by_name(world):
    async with world.engine() as engine:
        job = await engine.ended(await engine.submit("true", image="gone"))

        assert (job.script_state, job.reason) == (ScriptState.FAILED, "image_broken")


async def test_a_start_whose_answer_never_comes_is_looked_after(world):
    world.faults.hang = frozenset({"start"})
    async with world.engine() as engine:
        job = await engine.ended(await engine.submit("true"))

        assert (job.script_state, job.attempt) == (ScriptState.SUCCEEDED, 1)


async def test_a_destroy_that_hangs_delays_the_end_of_the_vm_and_not_of_the_job(world):
    world.faults.hang = frozenset({"destroy"})
    async with world.engine() as engine:
        job_id = await engine.submit("true")
        ended = await engine.until(job_id, lambda job: job.script_state.is_final)
        world.faults.hang = frozenset()

        gone = await engine.ended(job_id)

        assert (ended.script_state, gone.vm_state) == (ScriptState.SUCCEEDED, VmState.GONE)


async def test_a_running_script_is_stopped_by_sigterm_and_may_say_goodbye(world):
    async with world.engine() as engine:
        job_id = await engine.submit("trap 'echo goodbye; exit 0' TERM; echo begin; sleep 600 & wait")
        await engine.until(job_id, lambda job: job.script_state is ScriptState.RUNNING)
        await asyncio.sleep(0.2)
        await engine.stop(job_id)

        job = await engine.ended(job_id)

        assert job.script_state is ScriptState.STOPPED
        assert b"goodbye\n" in await engine.output(job_id)


async def test_a_script_that_ignores_sigterm_is_killed_after_the_grace(world):
    async with world.engine(stop_grace=0.2) as engine:
        job_id = await engine.submit("trap '' TERM; while true; do sleep 0.05; done")
        await engine.running(job_id)
        await engine.stop(job_id)

        job = await engine.ended(job_id)

        assert (job.script_state, job.exit_code) == (ScriptState.STOPPED, 137)


async def test_a_guest_that_does_not_stop_its_script_is_ended_by_the_engine(world):
    async with world.engine(stop_grace=0.1) as engine:
        job_id = await engine.submit(FOREVER)
        await engine.running(job_id)
        await engine.hypervisor.pause(await engine.vm(job_id))
        await engine.stop(job_id)

        job = await engine.ended(job_id)

        assert (job.script_state, job.exit_code) == (ScriptState.STOPPED, None)


async def test_a_job_is_stopped_while_its_vm_boots(world):
    world.faults.boot_delay = 60.0
    async with world.engine() as engine:
        job_id = await engine.submit("true")
        await engine.vm(job_id)
        await engine.stop(job_id)

        job = await engine.ended(job_id)

        assert (job.script_state, job.attempt) == (ScriptState.STOPPED, 1)


async def test_stopping_twice_is_stopping_once(world):
    async with world.engine() as engine:
        job_id = await engine.submit(FOREVER)
        await engine.running(job_id)

        await asyncio.gather(*(engine.stop(job_id) for _ in range(5)))

        job = await engine.ended(job_id)
        assert job.script_state is ScriptState.STOPPED
        assert (await engine.kinds(job_id)).count("stop_requested") == 1


async def test_stopping_an_ended_or_an_unknown_job_changes_nothing(world):
    async with world.engine() as engine:
        before = await engine.ended(await engine.submit("true"))

        assert await engine.stop(before.id) == before
        assert await engine.stop(new_job_id()) is None
        assert await engine.job(before.id) == before


async def test_a_stop_that_races_with_the_end_leaves_one_truth(world):
    async def race(engine: Any, delay: float) -> Any:
        job_id = await engine.submit("sleep 0.1; echo done")
        await engine.running(job_id)
        await asyncio.sleep(delay)
        asked = await engine.stop(job_id)
        assert asked is not None
        ended = await engine.ended(job_id)
        kinds = await engine.kinds(job_id)
        assert len({"exited", "stopped"} & set(kinds)) == 1
        assert kinds.count("vm_gone") == 1
        if asked.script_state.is_final:
            assert ended.script_state is asked.script_state
        return ended.script_state

    async with world.engine(cpus=8) as engine:
        states = await asyncio.gather(*(race(engine, number * 0.008) for number in range(24)))

        assert set(states) <= {ScriptState.SUCCEEDED, ScriptState.STOPPED}


async def test_deleting_a_running_job_stops_it_and_leaves_nothing(world):
    async with world.engine() as engine:
        job_id = await engine.submit(FOREVER)
        await engine.running(job_id)

        assert not await engine.engine.delete(job_id)
        async with asyncio.timeout(20):
            while await engine.ports.jobs.get(job_id) is not None or world.layout.job(job_id).exists():
                await engine.engine.bell.wait(engine.engine.bell.listen(), 0.05)

        assert await world.destroy_all() == 0


async def test_without_a_hypervisor_nothing_is_accepted_and_the_cause_is_told(world, monkeypatch):
    async def refuse(hypervisor):
        raise HypervisorUnavailable("libvirt is not there.")

    monkeypatch.setattr("magpie_local.testing.FakeHypervisor.open", refuse)
    async with world.engine() as engine:
        with pytest.raises(HypervisorUnavailable, match="libvirt is not there"):
            await asyncio.wait_for(engine.engine.can_accept(), 5)


async def test_a_hypervisor_that_comes_back_is_used(world, monkeypatch):
    async def refuse(hypervisor):
        raise HypervisorUnavailable("libvirt is not there.")

    async with contextlib.AsyncExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr("magpie_local.testing.FakeHypervisor.open", refuse)
            engine = await stack.enter_async_context(world.engine())
            with pytest.raises(HypervisorUnavailable):
                await asyncio.wait_for(engine.engine.can_accept(), 5)

        job = await engine.ended(await engine.submit("true"))

        assert job.script_state is ScriptState.SUCCEEDED


async def test_a_bug_of_the_leader_is_told_and_leading_tried_again(world, monkeypatch):
    async def break_down(hypervisor):
        raise ZeroDivisionError("a bug")

    async with contextlib.AsyncExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr("magpie_local.testing.FakeHypervisor.sights", break_down)
            engine = await stack.enter_async_context(world.engine())
            with pytest.raises(HostError, match="a bug"):
                await asyncio.wait_for(engine.engine.can_accept(), 5)

        job = await engine.ended(await engine.submit("true"))

        assert job.script_state is ScriptState.SUCCEEDED
