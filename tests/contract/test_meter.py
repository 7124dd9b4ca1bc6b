"""What every meter does: CPU time and memory of a VM as they are, and nothing of one that is not there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.metrics import sample_of
from magpie_local.domain.sizes import MIB
from magpie_local.domain.vm import Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.metrics import Reading

#: What a busy VM shows, of one core: other processes may want the machine's cores as well.
_ONE_CORE = (0.2, 1.25)
#: Seconds until a busy machine gives a VM its share.
_PATIENCE = 40.0
_BUSY = b"echo begin; while :; do :; done"


@pytest.fixture
def read(world):
    async def one(vm_id: VmId) -> Reading | None:
        readings: Mapping[VmId, Reading] = await asyncio.to_thread(world.meter.read, [vm_id])
        return readings.get(vm_id)

    return one


@pytest.fixture
def until(world, read):
    """Return a waiter for two readings, some time apart, between which a VM used its CPU as asked."""

    async def cpu(vm_id: VmId, least: float, most: float) -> None:
        async with asyncio.timeout(_PATIENCE):
            before = await read(vm_id)
            while True:
                await asyncio.sleep(0.5)
                now = await read(vm_id)
                if least <= sample_of(now, before, 0.0).cpu <= most:
                    return
                before = now

    return cpu


@pytest.fixture
def around(runner, read):
    """Return what reads a VM before a script, and once that has said a word."""

    async def both(script: bytes, word: bytes) -> tuple[Reading, Reading]:
        async with runner.session() as (spec, session):
            before = await read(spec.id)
            await session.run(runner.order(spec, script))
            await runner.wait_for_output(spec, word)
            return before, await read(spec.id)

    return both


async def test_a_vm_that_never_was_has_no_reading(world, hypervisor):
    assert world.meter.read([new_vm_id()]) == {}
    assert world.meter.read([]) == {}


async def test_each_vm_that_is_there_is_read_and_one_that_has_gone_no_more(world, hypervisor, read):
    one, two = await world.spec(), await world.spec()
    for spec in (one, two):
        await hypervisor.start(spec)
    found = world.meter.read([one.id, new_vm_id(), two.id])
    assert found.keys() == {one.id, two.id}
    await hypervisor.destroy(one.id)
    assert world.meter.read([one.id, two.id]).keys() == {two.id}


async def test_a_reading_counts_from_the_vms_start_and_never_goes_back(world, hypervisor, read):
    spec = await world.spec()
    began = asyncio.get_running_loop().time()
    await hypervisor.start(spec)
    before = await read(spec.id)
    later = await read(spec.id)
    assert 0 <= before.age <= before.at - began + 0.05
    assert later.at - before.at == pytest.approx(later.age - before.age, abs=0.02)
    assert later.cpu_seconds >= before.cpu_seconds >= 0
    assert before.memory > MIB


async def test_a_busy_loop_takes_one_core_and_an_idle_or_paused_vm_none(world, hypervisor, runner, until):
    async with runner.session() as (spec, session):
        await until(spec.id, 0.0, 0.1)
        await session.run(runner.order(spec, _BUSY))
        await until(spec.id, *_ONE_CORE)
        await hypervisor.pause(spec.id)
        assert (await hypervisor.sight(spec.id)).condition is Condition.PAUSED
        await until(spec.id, 0.0, 0.05)
        await hypervisor.resume(spec.id)
        await until(spec.id, *_ONE_CORE)


async def test_memory_that_the_guest_touches_counts(around):
    touch = b"python3 -c \"x = b'x' * (64 << 20); print('touched', flush=True); input()\" < <(sleep 600)"
    before, after = await around(touch, b"touched")
    assert 56 * MIB < after.memory - before.memory < 160 * MIB


async def test_what_ended_in_a_vm_has_been_counted(around):
    busy = b"python3 -c 'import time\nwhile time.process_time() < 0.5: pass'; echo done; sleep 600"
    before, after = await around(busy, b"done")
    # An emulated guest counts as its own what its host gave to others.
    assert 0.15 < after.cpu_seconds - before.cpu_seconds < 2.0
