"""What every hypervisor does with running VMs: pause, freeze and fork them, add disks, end held ones."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import subprocess
import sys
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.vm import Condition, Disk, RamFile, Snapshot
from magpie_local.errors import HostError, SnapshotUnusable
from magpie_local.guest.channel import AgentGuest

if TYPE_CHECKING:
    from magpie_local.domain.vm import VmSight, VmSpec

#: An engine with two paused held VMs, of which it lets one go.
ENGINE = """
import asyncio, pickle, sys
from pathlib import Path
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.testing import FakeHypervisor

async def main():
    code, kept, released = pickle.load(sys.stdin.buffer)
    engine = eval(code)
    await engine.open()
    for spec in (kept, released):
        await engine.start(spec)
        await engine.pause(spec.id)
    await engine.resume(released.id)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Frozen:
    """A VM frozen when its agent was idle."""

    spec: VmSpec
    snapshot: Snapshot

    @property
    def disk(self) -> Disk:
        return Disk(path=self.spec.disks[0].path, format="qcow2", readonly=True)

    def digests(self) -> list[str]:
        files = (self.snapshot.ram, self.snapshot.devices, self.disk.path)
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.fixture
async def frozen(world, hypervisor) -> Frozen:
    """A frozen VM; it is still there."""
    snapshot = Snapshot(ram=world.folder / "ram", devices=world.folder / "devices")
    spec = await world.spec(memory=RamFile(path=snapshot.ram))
    await hypervisor.start(spec)
    await _answers(world, spec)
    await hypervisor.freeze(spec.id, snapshot.devices)
    return Frozen(spec, snapshot)


async def _answers(world: Any, spec: VmSpec) -> None:
    """Return when the agent has answered; leaves its channel."""
    session = await AgentGuest().connect(spec.control)
    async with asyncio.timeout(world.patience):
        assert (await session.hello()).state == "idle"
    await session.close()


async def _fork(world: Any, hypervisor: Any, frozen: Frozen) -> VmSpec:
    spec: VmSpec = await world.spec(base=frozen.disk, memory=frozen.snapshot)
    await hypervisor.start(spec)
    return spec


async def _run(runner: Any, spec: VmSpec, script: bytes) -> bytes:
    session = await AgentGuest().connect(spec.control)
    await session.run(runner.order(spec, script))
    await session.exited()
    output: bytes = (await runner.log_with_exit(spec)).output()
    await session.close()
    return output


async def test_forks_of_a_template_that_is_gone_share_nothing_that_is_written_later(world, hypervisor, runner, frozen):
    await hypervisor.destroy(frozen.spec.id)
    before = frozen.digests()
    first, second = [await _fork(world, hypervisor, frozen) for _ in range(2)]
    script = b"cat mine 2>/dev/null; echo %s > mine; sync; cat mine"
    assert await _run(runner, first, script % b"first") == b"first\n"
    assert await _run(runner, second, script % b"second") == b"second\n"
    third = await _fork(world, hypervisor, frozen)
    assert await _run(runner, third, script % b"third") == b"third\n"
    assert frozen.digests() == before


async def test_a_fork_has_outputs_of_its_own_though_its_template_had_none(world, hypervisor, runner, frozen):
    spec = await world.spec(base=frozen.disk, memory=frozen.snapshot)
    spec = replace(spec, outputs=spec.log.with_name("outputs"))
    await hypervisor.start(spec)
    session = await AgentGuest().connect(spec.control)
    await session.run(replace(runner.order(spec, b"echo result > x"), outputs=("x",), outputs_limit=4096))
    await session.exited()
    said = (await runner.log_with_exit(spec)).exit.outputs
    await session.close()
    await world.eventually(lambda: spec.outputs.stat().st_size == said.size)
    assert (said.files, said.crc) == (1, zlib.crc32(spec.outputs.read_bytes()))
    assert b"result\n" in spec.outputs.read_bytes()
    assert spec.outputs.stat().st_mode & 0o777 == 0o600


async def test_twenty_forks_at_once_all_answer(world, hypervisor, frozen):
    specs = [await world.spec(base=frozen.disk, memory=frozen.snapshot) for _ in range(20)]
    times = await asyncio.gather(*(hypervisor.start(spec) for spec in specs))
    await asyncio.gather(*(_answers(world, spec) for spec in specs))
    assert all(took.create > 0 for took in times)


async def test_files_of_a_snapshot_are_private(frozen):
    files = (frozen.snapshot.ram, frozen.snapshot.devices)
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]


async def test_a_frozen_vm_is_paused_for_good(hypervisor, frozen):
    before = frozen.digests()
    with pytest.raises(HostError, match="frozen"):
        await hypervisor.resume(frozen.spec.id)
    assert (await hypervisor.sight(frozen.spec.id)).condition is Condition.PAUSED
    assert frozen.digests() == before


@pytest.mark.parametrize("part", ["ram", "devices"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half"])
async def test_a_damaged_snapshot_is_refused_and_nothing_is_left(damage, part, world, hypervisor, frozen):
    file = getattr(frozen.snapshot, part)
    bad = file.with_name("bad")
    if damage != "gone":
        whole = file.read_bytes()
        bad.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    spec = await world.spec(base=frozen.disk, memory=replace(frozen.snapshot, **{part: bad}))
    with pytest.raises(SnapshotUnusable):
        await hypervisor.start(spec)
    await hypervisor.destroy(frozen.spec.id)
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE
    assert list(await hypervisor.sights()) == []


async def test_memory_goes_into_a_new_file_only(world, hypervisor):
    (world.folder / "ram").write_bytes(b"precious")
    spec = await world.spec(memory=RamFile(path=world.folder / "ram"))
    with pytest.raises(HostError, match="ram"):
        await hypervisor.start(spec)
    assert (world.folder / "ram").read_bytes() == b"precious"


async def test_a_paused_vm_stands_still_and_goes_on(world, hypervisor, runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"while true; do echo x; sleep 0.05; done"))
        await runner.wait_for_output(spec, b"x\nx\n")
        await hypervisor.pause(spec.id)
        await hypervisor.pause(spec.id)
        await asyncio.sleep(0.2)  # what was on its way arrives
        before = spec.log.stat().st_size
        await asyncio.sleep(0.5)
        assert spec.log.stat().st_size == before
        await hypervisor.resume(spec.id)
        await hypervisor.resume(spec.id)
        await world.eventually(lambda: spec.log.stat().st_size > before)


async def test_pausing_and_resuming_are_reported(world, hypervisor):
    seen: list[VmSight] = []
    hypervisor.watch(seen.append)
    spec = await world.spec()
    await hypervisor.start(spec)
    await world.eventually(lambda: [sight.condition for sight in seen][-1:] == [Condition.RUNNING])
    await hypervisor.pause(spec.id)
    await world.eventually(lambda: seen[-1].condition is Condition.PAUSED)
    assert (await hypervisor.sight(spec.id)).condition is Condition.PAUSED
    await hypervisor.resume(spec.id)
    await world.eventually(lambda: seen[-1].condition is Condition.RUNNING)


async def test_what_is_not_there_can_not_be_handled(world, hypervisor):
    vm_id, disk = new_vm_id(), Disk(path=world.image.scratch, format="qcow2")
    for handling in (
        hypervisor.pause(vm_id), hypervisor.resume(vm_id), hypervisor.plug(vm_id, disk),
        hypervisor.freeze(vm_id, world.folder / "devices"),
    ):  # fmt: skip
        with pytest.raises(HostError):
            await handling
    assert not (world.folder / "devices").exists()


async def test_vms_of_another_state_directory_are_not_handled(world, hypervisor):
    foreign = await world.spec(state_id="state-2")
    other = world.connect("state-2")
    # One hypervisor at a time: an embedded one belongs to one object.
    await hypervisor.close()
    await other.open()
    await other.start(foreign)
    await other.close()
    await hypervisor.open()
    with pytest.raises(HostError):
        await hypervisor.pause(foreign.id)
    await hypervisor.close()
    await other.open()
    assert (await other.sight(foreign.id)).condition is Condition.RUNNING
    await other.close()
    await hypervisor.open()


async def test_disks_are_added_to_a_fork_as_long_as_there_are_slots(world, hypervisor, runner, frozen):
    fork = await _fork(world, hypervisor, frozen)
    disks = [Disk(path=world.folder / f"data{number}", format="qcow2") for number in range(3)]
    for disk in disks:
        await world.disks.overlay(disk.path, Disk(path=world.image.scratch, format="qcow2", readonly=True))
    await hypervisor.plug(fork.id, disks[0])
    await hypervisor.plug(fork.id, disks[1])
    with pytest.raises(HostError, match="slot"):
        await hypervisor.plug(fork.id, disks[2])
    if world.has_disks:
        waits = b"for _ in $(seq 100); do [ -b /dev/vdd ] && break; sleep 0.1; done; ls /dev/vd?"
        assert await _run(runner, fork, waits) == b"/dev/vda\n/dev/vdb\n/dev/vdc\n/dev/vdd\n"


async def test_a_disk_that_is_not_there_is_not_added(world, hypervisor):
    spec = await world.spec()
    await hypervisor.start(spec)
    with pytest.raises(HostError, match="nothing"):
        await hypervisor.plug(spec.id, Disk(path=world.folder / "nothing", format="qcow2"))
    assert (await hypervisor.sight(spec.id)).condition is Condition.RUNNING


async def test_a_held_vm_ends_when_the_hypervisor_closes_and_others_go_on(world, hypervisor):
    kept, released, plain = [await world.spec(held=held) for held in (True, True, False)]
    for spec in (kept, released, plain):
        await hypervisor.start(spec)
    await hypervisor.pause(kept.id)
    await hypervisor.pause(released.id)
    await hypervisor.resume(released.id)
    await hypervisor.close()
    await hypervisor.open()
    assert {sight.id for sight in await hypervisor.sights()} == {released.id, plain.id}


async def test_a_held_vm_ends_with_a_killed_engine_and_one_let_go_stays(world, hypervisor):
    kept, released = [await world.spec(held=True) for _ in range(2)]
    await hypervisor.close()
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENGINE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.write(pickle.dumps((world.code, kept, released)))
    engine.stdin.close()
    assert await engine.stdout.readline() == b"ready\n"
    engine.kill()
    await engine.wait()
    await hypervisor.open()
    async with asyncio.timeout(world.patience):
        while [sight.id for sight in await hypervisor.sights()] != [released.id]:
            await asyncio.sleep(0.02)
    assert (await hypervisor.sight(released.id)).condition is Condition.RUNNING


async def test_the_fingerprint_is_the_same_for_every_connection(world, hypervisor):
    first = (await hypervisor.open()).fingerprint
    await hypervisor.close()
    assert (await hypervisor.open()).fingerprint == first != ""
