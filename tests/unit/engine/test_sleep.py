"""VMs that are kept fall asleep and wake, on the fake hypervisor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.states import VmState, Wish
from magpie_local.domain.vm import Condition
from magpie_local.errors import HostDiskFull, HostError

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.job import JobRecord
    from tests.unit.engine.conftest import Driven


def state_is(state: VmState) -> Any:
    return lambda job: job.vm_state is state and job.wish is None


async def kept(driven: Driven, **fields: Any) -> JobId:
    """Return a job whose script has ended and whose VM stays."""
    job_id = await driven.submit("echo ready", persistent=True, **fields)
    await driven.until(job_id, lambda job: job.is_kept)
    return job_id


async def ask(driven: Driven, job_id: JobId, wish: Wish) -> None:
    await driven.ports.wishes.ask_vm(job_id, wish)
    driven.engine.bell.ring()


async def put_to_sleep(driven: Driven, job_id: JobId) -> VmId:
    vm_id = await driven.vm(job_id)
    await ask(driven, job_id, Wish.SLEEP)
    await driven.until(job_id, state_is(VmState.ASLEEP))
    await gone(driven, vm_id)
    return vm_id


async def gone(driven: Driven, vm_id: VmId) -> None:
    async with asyncio.timeout(10):
        while (await driven.hypervisor.sight(vm_id)).condition is not Condition.GONE:
            await asyncio.sleep(0.01)


async def awake(driven: Driven, job_id: JobId) -> JobRecord:
    job = await driven.until(job_id, state_is(VmState.READY))
    await driven.vm(job_id)
    return job


async def end(driven: Driven, job_id: JobId) -> None:
    await driven.stop(job_id)
    await driven.ended(job_id)


async def wake(driven: Driven, job_id: JobId) -> None:
    await ask(driven, job_id, Wish.WAKE)
    await awake(driven, job_id)


async def texts(driven: Driven, job_id: JobId) -> str:
    return "\n".join(str(event.detail.get("text", "")) for event in await driven.story(job_id))


async def test_a_vm_that_nobody_uses_sleeps_and_wakes_when_it_is_asked(world):
    async with world.engine() as driven:
        job_id = await kept(driven, idle_pause=0.1)
        await driven.until(job_id, state_is(VmState.ASLEEP))
        (vm_id,) = world.doorbells.hung
        await gone(driven, vm_id)
        job = await driven.job(job_id)
        files = world.layout.attempt(job_id, job.attempt)
        port = driven.ports.doors.find(job_id).target.port
        assert world.doorbells.hung == {vm_id: port}
        assert files.asleep.stat().st_mode & 0o777 == 0o600
        driven.sleepers.connections[vm_id] = 1
        await wake(driven, job_id)
        await until(lambda: not files.asleep.exists() and not world.doorbells.hung)
        assert driven.ports.doors.find(job_id).target.port == port == await driven.ports.vms.expose(vm_id)
        assert not await driven.engine.work_left() or (await driven.job(job_id)).idle_pause
        driven.sleepers.connections[vm_id] = 0
        await driven.until(job_id, state_is(VmState.ASLEEP))
        await end(driven, job_id)


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_vm_with_a_connection_stays_awake(world):
    async with world.engine() as driven:
        job_id = await driven.submit("echo ready", persistent=True, idle_pause=0.5)
        vm_id = await driven.vm(job_id)
        driven.sleepers.connections[vm_id] = 1
        await driven.until(job_id, lambda job: job.is_kept)
        await asyncio.sleep(2.5)  # five times as long as it takes to fall asleep
        assert (await driven.job(job_id)).vm_state is VmState.READY
        assert await driven.engine.work_left()
        driven.sleepers.connections[vm_id] = 0
        await driven.until(job_id, state_is(VmState.ASLEEP))
        assert not await driven.engine.work_left()
        await end(driven, job_id)


async def test_a_sleeping_vm_takes_no_room_and_waits_for_room_to_wake(world):
    async with world.engine(memory_mb=300) as driven:
        first = await kept(driven)
        await put_to_sleep(driven, first)
        second = await kept(driven)
        await ask(driven, first, Wish.WAKE)
        async with asyncio.timeout(10):
            while "waits for memory: wants 256 MiB, 44 of 300 MiB are free" not in await texts(driven, first):
                await asyncio.sleep(0.02)
        assert (await driven.job(first)).vm_state is VmState.ASLEEP
        await driven.stop(second)
        await awake(driven, first)
        await end(driven, first)


@pytest.mark.parametrize("error", [HostDiskFull("There is no room."), HostError("It broke.")])
async def test_a_vm_that_can_not_be_saved_goes_on_and_says_why(world, error):
    world.faults.save_error = error
    async with world.engine() as driven:
        job_id = await kept(driven)
        await ask(driven, job_id, Wish.SLEEP)
        job = await driven.until(job_id, lambda job: job.wish is None)
        await driven.vm(job_id)  # it runs
        assert job.vm_state is VmState.READY
        assert error.message in await texts(driven, job_id)
        await until(lambda: not world.doorbells.hung)
        await end(driven, job_id)


async def test_a_wake_that_fails_is_tried_again(world):
    async with world.engine() as driven:
        job_id = await kept(driven)
        vm_id = await put_to_sleep(driven, job_id)
        world.faults.load_error = HostError("There is no memory.")
        await ask(driven, job_id, Wish.WAKE)
        async with asyncio.timeout(10):
            while "There is no memory" not in await texts(driven, job_id):
                await asyncio.sleep(0.02)
        assert vm_id in world.doorbells.hung
        world.faults.load_error = None
        await awake(driven, job_id)
        await end(driven, job_id)


@pytest.mark.parametrize("damage", ["missing", "garbage"])
async def test_a_vm_whose_file_is_damaged_is_gone_and_says_why(world, damage):
    async with world.engine() as driven:
        job_id = await kept(driven)
        await put_to_sleep(driven, job_id)
        file = world.layout.attempt(job_id, 1).asleep
        file.unlink() if damage == "missing" else file.write_bytes(b"garbage")
        await ask(driven, job_id, Wish.WAKE)
        await driven.ended(job_id)
        assert "can't be woken" in await texts(driven, job_id)
        assert world.doorbells.hung == {}
        assert not file.exists()


async def test_a_wish_to_wake_that_comes_while_it_falls_asleep_is_not_lost(world):
    async with world.engine() as driven:
        job_id = await kept(driven)
        await ask(driven, job_id, Wish.SLEEP)
        await driven.ports.wishes.ask_vm(job_id, Wish.WAKE)
        driven.engine.bell.ring()
        await awake(driven, job_id)
        await end(driven, job_id)


async def test_the_next_engine_wakes_a_vm_after_the_host_was_rebooted(world):
    async with world.engine() as driven:
        job_id = await kept(driven)
        vm_id = await put_to_sleep(driven, job_id)
    world.clock.boot = "boot-2"
    world.doorbells.hung.clear()
    async with world.engine() as driven:
        await until(lambda: vm_id in world.doorbells.hung)
        await wake(driven, job_id)
        await end(driven, job_id)


async def test_a_port_that_was_taken_meanwhile_is_replaced(world):
    async with world.engine() as driven:
        job_id = await kept(driven)
        vm_id = await put_to_sleep(driven, job_id)
        before = driven.ports.doors.find(job_id)
        thief = await asyncio.start_server(lambda *_: None, "127.0.0.1", before.target.port)
        await wake(driven, job_id)
        await until(lambda: driven.ports.doors.find(job_id) != before)
        after = driven.ports.doors.find(job_id)
        assert after.target.port == await driven.ports.vms.expose(vm_id) != before.target.port
        assert after.target.host_key == before.target.host_key
        async with asyncio.timeout(10):
            while f"port {before.target.port} is somebody else's now" not in await texts(driven, job_id):
                await asyncio.sleep(0.02)
        thief.close()
        await end(driven, job_id)


async def test_a_sleeping_vm_is_stopped_without_being_woken_unless_it_has_a_workspace(world):
    async with world.engine() as driven:
        plain = await kept(driven)
        await put_to_sleep(driven, plain)
        await end(driven, plain)
        assert "vm_woken" not in await driven.kinds(plain)
        assert not world.layout.attempt(plain, 1).asleep.exists()
        assert world.doorbells.hung == {}
        stateful = await kept(driven, stateful=True, workspace_id="mine")
        await put_to_sleep(driven, stateful)
        assert (await driven.ports.workspaces.get("mine")).in_use_by == stateful
        await end(driven, stateful)
        assert "vm_woken" in await driven.kinds(stateful)


async def test_nothing_is_asked_of_a_vm_that_is_not_kept(world):
    async with world.engine() as driven:
        job_id = await driven.submit("sleep 60", persistent=True)
        await driven.running(job_id)
        job = await driven.ports.wishes.ask_vm(job_id, Wish.SLEEP)
        assert job.wish is None
        await end(driven, job_id)
