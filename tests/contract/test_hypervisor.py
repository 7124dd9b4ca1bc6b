"""What every hypervisor does: VMs start once, are seen, outlive the object, and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.vm import Condition
from magpie_local.errors import GuestLost, VmExists
from magpie_local.guest.channel import AgentGuest

if TYPE_CHECKING:
    from magpie_local.domain.vm import VmSight


async def test_opening_again_returns_the_same_features(hypervisor):
    assert await hypervisor.open() == await hypervisor.open()


async def test_a_started_vm_is_seen_with_its_attempt(world, hypervisor):
    spec = await world.spec()
    await hypervisor.start(spec)
    sight = await hypervisor.sight(spec.id)
    assert (sight.id, sight.attempt_id, sight.condition) == (spec.id, spec.attempt_id, Condition.RUNNING)
    assert list(await hypervisor.sights()) == [sight]


async def test_a_vm_that_never_was_is_gone(hypervisor):
    vm_id = new_vm_id()
    sight = await hypervisor.sight(vm_id)
    assert (sight.id, sight.condition) == (vm_id, Condition.GONE)
    assert list(await hypervisor.sights()) == []


async def test_a_vm_is_not_started_twice(world, hypervisor):
    spec = await world.spec()
    await hypervisor.start(spec)
    with pytest.raises(VmExists):
        await hypervisor.start(spec)
    assert (await hypervisor.sight(spec.id)).condition is Condition.RUNNING


async def test_of_racing_starts_of_one_vm_exactly_one_succeeds(world, hypervisor):
    spec = await world.spec()
    results = await asyncio.gather(*(hypervisor.start(spec) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["StartTimes", "VmExists", "VmExists", "VmExists"]
    assert len(await hypervisor.sights()) == 1


async def test_a_destroyed_vm_is_gone_and_its_channel_closed(world, hypervisor):
    spec = await world.spec()
    await hypervisor.start(spec)
    session = await AgentGuest().connect(spec.control)
    await hypervisor.destroy(spec.id)
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE
    assert list(await hypervisor.sights()) == []
    with pytest.raises(GuestLost):
        await session.exited()
    await session.close()


async def test_destroying_twice_or_what_never_was_is_no_error(world, hypervisor):
    spec = await world.spec()
    await hypervisor.start(spec)
    await hypervisor.destroy(spec.id)
    await hypervisor.destroy(spec.id)
    await hypervisor.destroy(new_vm_id())
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE


async def test_vms_outlive_the_object_and_are_found_by_the_next(world, hypervisor, runner):
    spec = await world.spec()
    await hypervisor.start(spec)
    await hypervisor.close()
    await hypervisor.close()
    await hypervisor.open()
    assert (await hypervisor.sight(spec.id)).condition is Condition.RUNNING
    session = await AgentGuest().connect(spec.control)
    async with asyncio.timeout(world.patience):
        assert (await session.hello()).state == "idle"
    await session.close()


async def test_vms_of_another_state_directory_are_invisible_and_untouchable(world, hypervisor):
    foreign = await world.spec(state_id="state-2")
    other = world.connect("state-2")
    # One hypervisor at a time: an embedded one belongs to one object.
    await hypervisor.close()
    await other.open()
    await other.start(foreign)
    await other.close()
    await hypervisor.open()
    assert list(await hypervisor.sights()) == []
    await hypervisor.destroy(foreign.id)
    await hypervisor.close()
    await other.open()
    assert (await other.sight(foreign.id)).condition is Condition.RUNNING
    await other.destroy(foreign.id)
    await other.close()
    await hypervisor.open()


async def test_changes_are_reported(world, hypervisor):
    seen: list[VmSight] = []
    hypervisor.watch(seen.append)
    spec = await world.spec()
    await hypervisor.start(spec)
    await world.eventually(lambda: _conditions(seen, spec.id)[-1:] == [Condition.RUNNING])
    await hypervisor.destroy(spec.id)
    await world.eventually(lambda: _conditions(seen, spec.id)[-1:] == [Condition.GONE])


async def test_a_vm_whose_guest_powered_off_is_gone(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"true"))
        await session.exited()
    await runner.gone(spec)
    assert list(await runner.hypervisor.sights()) == []


def _conditions(seen: list[VmSight], vm_id: str) -> list[Condition]:
    return [sight.condition for sight in seen if sight.id == vm_id]
