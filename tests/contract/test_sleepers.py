"""What every hypervisor does with VMs that sleep: they go to a file, and come back as they were."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.vm import Condition, Disk, RamFile, Snapshot
from magpie_local.errors import HostError, SnapshotUnusable, VmExists
from magpie_local.guest.channel import AgentGuest
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.hypervisor.sleepers import LibvirtSleepers
from magpie_local.testing import FakeSleepers

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_MB = 384


@pytest.fixture
def sleepers(hypervisor) -> Any:
    return LibvirtSleepers(hypervisor) if isinstance(hypervisor, LibvirtHypervisor) else FakeSleepers(hypervisor)


@dataclass
class Sleeping:
    """A VM that went to a file."""

    spec: Any
    file: Path
    port: int


async def answers(world: Any, spec: Any) -> str:
    session = await AgentGuest().connect(spec.control)
    try:
        async with asyncio.timeout(world.patience):
            return str((await session.hello()).state)
    finally:
        await session.close()


async def put_to_sleep(world: Any, hypervisor: Any, sleepers: Any, spec: Any) -> Sleeping:
    port = await hypervisor.expose(spec.id)
    await sleepers.hide(spec.id)
    file = world.folder / f"asleep-{spec.id}"
    size = await sleepers.save(spec.id, file, MEMORY_MB)
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, size)
    return Sleeping(spec, file, port)


async def sleeping(kind: str, world: Any, hypervisor: Any, sleepers: Any) -> Sleeping:
    """Return a VM whose state is in a file; it is still there, paused."""
    spec = await world.spec()
    if kind == "fork":
        snapshot = Snapshot(ram=world.folder / "ram", devices=world.folder / "devices")
        spec = await world.spec(memory=RamFile(path=snapshot.ram))
    await hypervisor.start(spec)
    await answers(world, spec)
    if kind == "fork":
        await hypervisor.freeze(spec.id, snapshot.devices)
        await hypervisor.destroy(spec.id)
        disk = Disk(path=spec.disks[0].path, format="qcow2", readonly=True)
        spec = await world.spec(base=disk, memory=snapshot)
        await hypervisor.start(spec)
        plugged = world.folder / "plugged"
        await world.disks.blank(plugged, 1)
        await hypervisor.plug(spec.id, Disk(path=plugged, format="qcow2", serial="workspace"))
    return await put_to_sleep(world, hypervisor, sleepers, spec)


async def load(sleepers: Any, one: Sleeping) -> None:
    await sleepers.load(one.spec.id, one.spec.attempt_id, one.file, MEMORY_MB)


async def condition(hypervisor: Any, one: Sleeping) -> Condition:
    found: Condition = (await hypervisor.sight(one.spec.id)).condition
    return found


@pytest.mark.parametrize("kind", ["cold", "fork"])
async def test_a_vm_comes_back_again_and_again_at_its_port(world, hypervisor, sleepers, kind):
    one = await sleeping(kind, world, hypervisor, sleepers)
    for _ in range(2):
        assert await condition(hypervisor, one) is Condition.PAUSED
        await hypervisor.destroy(one.spec.id)
        assert await condition(hypervisor, one) is Condition.GONE
        await load(sleepers, one)
        with pytest.raises(VmExists):
            await load(sleepers, one)
        assert await condition(hypervisor, one) is Condition.PAUSED
        await goes_on(world, hypervisor, one)
        assert [sight.attempt_id for sight in await hypervisor.sights()] == [one.spec.attempt_id]
        one.file.unlink()
        await sleepers.hide(one.spec.id)
        await sleepers.save(one.spec.id, one.file, MEMORY_MB)
    # One that was saved may also go on as it is.
    await goes_on(world, hypervisor, one)
    assert await sleepers.visitors(one.spec.id) == 0


async def goes_on(world: Any, hypervisor: Any, one: Sleeping) -> None:
    await hypervisor.resume(one.spec.id)
    assert await hypervisor.expose(one.spec.id, one.port) == one.port
    assert await answers(world, one.spec) == "idle"


async def test_a_damaged_file_is_refused_and_so_is_a_port_of_somebody_else(world, hypervisor, sleepers):
    one = await sleeping("cold", world, hypervisor, sleepers)
    await hypervisor.destroy(one.spec.id)
    whole = one.file.read_bytes()
    at = len(whole) // 2 if len(whole) > 1 << 20 else 0
    changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for damaged in (None, b"", whole[: len(whole) // 2], changed):
        one.file.unlink()
        if damaged is not None:
            one.file.write_bytes(damaged)
        with pytest.raises(SnapshotUnusable, match="can't be woken"):
            await load(sleepers, one)
        assert await condition(hypervisor, one) is Condition.GONE
        one.file.write_bytes(whole)
    await load(sleepers, one)
    thief = await asyncio.start_server(lambda *_: None, "127.0.0.1", one.port)
    with pytest.raises(HostError):
        await hypervisor.expose(one.spec.id, one.port)
    assert await hypervisor.expose(one.spec.id) != one.port
    thief.close()
    await thief.wait_closed()
