"""What only the fake hypervisor does: faults on demand, and leaving no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.identity import Renewal
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.vm import Condition, Disk, RamFile, Snapshot, VmSpec
from magpie_local.errors import (
    HostDiskFull,
    HostError,
    HypervisorTimeout,
    ImageNotFound,
    SnapshotUnusable,
    VmExists,
)
from magpie_local.guest.channel import AgentGuest
from magpie_local.ports.guest import Order
from magpie_local.testing import FakeDisks, FakeHypervisor, FakeImages, Faults, ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from magpie_local.domain.vm import VmSight


@pytest.fixture
async def fake(tmp_path) -> AsyncIterator[FakeHypervisor]:
    hypervisor = FakeHypervisor(tmp_path / "registry", "state-1")
    await hypervisor.open()
    yield hypervisor
    hypervisor.faults = Faults()
    for sight in await hypervisor.sights():
        await hypervisor.destroy(sight.id)
    await hypervisor.close()


@pytest.fixture
async def spec(tmp_path) -> VmSpec:
    image = await FakeImages(tmp_path / "images").resolve("base")
    folder = tmp_path / "job"
    folder.mkdir()
    return VmSpec(
        id=new_vm_id(), state_id="state-1", attempt_id="a-1", vcpus=1, memory_mb=256, image=image, disks=(),
        control=folder / "control", log=folder / "log", console=folder / "console", mac="52:54:00:00:00:01",
    )  # fmt: skip


RENEWAL = Renewal(now=0.0, entropy=bytes(64))


async def run(spec: VmSpec, script: bytes) -> None:
    """Start a script in a VM, and leave."""
    session = await AgentGuest().connect(spec.control)
    await session.run(
        Order(attempt_id="a-1", nonce="n", script=script, env={}, timeout=None, log_limit=1 << 20, renewal=RENEWAL)
    )
    await session.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


async def test_destroy_kills_every_process_the_script_made(fake, spec):
    await fake.start(spec)
    script = b"sleep 300 & echo $!; setsid sleep 300 & echo $!; (setsid setsid sleep 300 &) ; echo $$; echo all; wait"
    await run(spec, script)
    await eventually(lambda: spec.log.exists() and b"all\n" in spec.log.read_bytes())
    family = _running_in(spec.log.parent)
    await fake.destroy(spec.id)
    # The script and its three sleeps; the agent may be at home there as well.
    assert len(family) >= 4
    assert _running_in(spec.log.parent) == []


async def test_destroy_kills_processes_that_go_on_in_new_ones(fake, spec):
    await fake.start(spec)
    # Sixty that each live for an instant and leave one behind: as hard to catch as a bomb, and never more.
    await run(spec, b"hop() { sleep 0.005; hop & }; for i in {1..60}; do hop & done; sleep 300")
    await eventually(lambda: len(_running_in(spec.log.parent)) > 20)
    await fake.destroy(spec.id)
    assert _running_in(spec.log.parent) == []


async def test_a_vm_that_ends_leaves_its_log_and_console_only(fake, spec):
    await fake.start(spec)
    await run(spec, b"touch litter; setsid sleep 300 & exit 0")
    session = await AgentGuest().connect(spec.control)
    await session.hello()
    await session.exited()
    await session.close()
    await eventually(lambda: _running_in(spec.log.parent) == [])
    await eventually(lambda: sorted(os.listdir(spec.log.parent)) == ["console", "log"])
    await eventually(lambda: os.listdir(spec.log.parents[1] / "registry") == [])


async def test_a_killed_vm_is_gone_and_its_files_stay(fake, spec):
    await fake.start(spec)
    await run(spec, b"echo up; sleep 300")
    await eventually(lambda: b"up\n" in spec.log.read_bytes())
    await fake.kill(spec.id)
    await eventually(lambda: _running_in(spec.log.parent) == [])
    # A process that is ending has lost its command line before its locks.
    await eventually(lambda: fake._sight(spec.id) is None)
    assert (await fake.sight(spec.id)).condition is Condition.GONE
    assert await fake.sights() == []
    assert spec.control.exists()


async def test_the_id_of_a_killed_vm_is_free_again(fake, spec):
    await fake.start(spec)
    await fake.kill(spec.id)
    await eventually(lambda: fake._sight(spec.id) is None)
    await fake.start(spec)
    with pytest.raises(VmExists):
        await fake.start(spec)


@pytest.mark.parametrize("shown", [Condition.PAUSED, Condition.DISK_ERROR, Condition.CRASHED])
async def test_a_paused_vm_stands_still_until_it_is_resumed(fake, spec, shown):
    await fake.start(spec)
    await run(spec, b"while true; do echo x; sleep 0.01; done")
    await eventually(lambda: spec.log.stat().st_size > 200)
    await fake.pause(spec.id, shown)
    await asyncio.sleep(0.05)
    before = spec.log.stat().st_size
    await asyncio.sleep(0.1)
    assert (await fake.sight(spec.id)).condition is shown
    assert spec.log.stat().st_size == before
    await fake.resume(spec.id)
    await eventually(lambda: spec.log.stat().st_size > before)
    assert (await fake.sight(spec.id)).condition is Condition.RUNNING


async def test_a_paused_vm_can_be_destroyed(fake, spec):
    await fake.start(spec)
    await run(spec, b"sleep 300")
    await fake.pause(spec.id)
    await fake.destroy(spec.id)
    assert _running_in(spec.log.parent) == []


async def test_changes_are_reported_unless_events_are_dropped(fake, spec):
    seen: list[VmSight] = []
    fake.watch(seen.append)
    await fake.start(spec)
    await eventually(lambda: bool(seen))
    await fake.pause(spec.id)
    await eventually(lambda: seen[-1].condition is Condition.PAUSED)
    fake.faults.drop_events = True
    await fake.destroy(spec.id)
    await asyncio.sleep(0.2)
    assert seen[-1].condition is Condition.PAUSED


async def test_bytes_sent_before_the_guest_has_booted_are_kept(fake, spec):
    fake.faults.boot_delay = 0.3
    await fake.start(spec)
    began = time.monotonic()
    session = await AgentGuest().connect(spec.control)
    assert (await session.hello()).state == "idle"
    assert time.monotonic() - began >= 0.25
    await session.close()


async def test_a_guest_that_never_comes_up(fake, spec):
    fake.faults.never_ready = True
    await fake.start(spec)
    session = await AgentGuest().connect(spec.control)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await session.hello()
    await session.close()
    assert (await fake.sight(spec.id)).condition is Condition.RUNNING


async def test_a_start_error_leaves_nothing(fake, spec):
    fake.faults.start_error = HostDiskFull()
    with pytest.raises(HostDiskFull):
        await fake.start(spec)
    assert await fake.sights() == []


async def test_a_hanging_start_has_started_and_a_hanging_destroy_has_not_ended(fake, spec):
    fake.faults.hang = frozenset({"start", "destroy"})
    with pytest.raises(HypervisorTimeout):
        await fake.start(spec)
    with pytest.raises(HypervisorTimeout):
        await fake.destroy(spec.id)
    assert (await fake.sight(spec.id)).condition is Condition.RUNNING


async def test_a_vm_that_cannot_be_started_says_why_and_leaves_nothing(fake, spec, tmp_path):
    broken = VmSpec(
        id=spec.id, state_id="state-1", attempt_id="a-1", vcpus=1, memory_mb=256, image=spec.image, disks=(),
        control=tmp_path / "no" / "control", log=spec.log, console=spec.console, mac=spec.mac,
    )  # fmt: skip
    with pytest.raises(HostError, match="could not be started: FileNotFoundError"):
        await fake.start(broken)
    assert os.listdir(tmp_path / "registry") == []


async def test_a_foreign_process_of_a_reused_number_is_not_killed(fake, spec):
    await fake.start(spec)
    record = fake._registry.read(spec.id)
    await asyncio.sleep(0.05)  # start times count in 10 ms
    bystander = await asyncio.create_subprocess_exec("sleep", "300")
    await fake.kill(spec.id)
    await eventually(lambda: fake._sight(spec.id) is None)
    fake._registry.write(type(record)(**{**_fields(record), "pid": bystander.pid}))
    await fake.kill(spec.id)
    await fake.destroy(spec.id)
    assert bystander.returncode is None
    os.kill(bystander.pid, signal.SIGKILL)
    await bystander.wait()


async def test_overlays_are_private_and_can_fail(tmp_path):
    disks = FakeDisks()
    base = Disk(path=tmp_path / "base", format="qcow2")
    await disks.overlay(tmp_path / "disk", base)
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o600
    disks.full = True
    with pytest.raises(HostDiskFull):
        await disks.overlay(tmp_path / "other", base)


async def test_only_the_named_images_exist(tmp_path):
    images = FakeImages(tmp_path, names=("base", "small"))
    assert (await images.resolve("small")).kernel.is_file()
    with pytest.raises(ImageNotFound, match="large"):
        await images.resolve("large")


def test_a_manual_clock_moves_when_told_to():
    clock = ManualClock(now=100.0, monotonic=5.0)
    clock.advance(2.5)
    clock.jump(-60.0)
    assert (clock.now(), clock.monotonic(), clock.boot_id()) == (42.5, 7.5, "boot-1")
    clock.reboot("boot-2")
    assert (clock.monotonic(), clock.boot_id()) == (0.0, "boot-2")


@pytest.fixture
async def template(fake, spec) -> Snapshot:
    """The files of a frozen VM that has gone."""
    snapshot = Snapshot(ram=spec.log.with_name("ram"), devices=spec.log.with_name("devices"))
    await fake.start(replace(spec, memory=RamFile(path=snapshot.ram)))
    await fake.freeze(spec.id, snapshot.devices)
    await fake.destroy(spec.id)
    return snapshot


async def test_a_fork_needs_no_time_to_boot(fake, spec, template):
    fake.faults.boot_delay = 60.0
    await fake.start(replace(spec, memory=template))
    session = await AgentGuest().connect(spec.control)
    async with asyncio.timeout(10):
        assert (await session.hello()).state == "idle"
    await session.close()


async def test_a_fork_that_fails_leaves_nothing_and_a_cold_start_works(fake, spec, template):
    fake.faults.fork_error = SnapshotUnusable("it does not load")
    with pytest.raises(SnapshotUnusable, match="does not load"):
        await fake.start(replace(spec, memory=template))
    assert await fake.sights() == []
    await fake.start(spec)
    assert (await fake.sight(spec.id)).condition is Condition.RUNNING


async def test_a_hanging_fork_has_started(fake, spec, template):
    fake.faults.hang = frozenset({"fork"})
    with pytest.raises(HypervisorTimeout):
        await fake.start(replace(spec, memory=template))
    assert (await fake.sight(spec.id)).condition is Condition.RUNNING


async def test_a_fork_of_another_size_is_refused(fake, spec, template):
    with pytest.raises(SnapshotUnusable):
        await fake.start(replace(spec, memory=template, memory_mb=spec.memory_mb * 2))


async def test_a_silent_fork_runs_without_an_agent(fake, spec, template):
    fake.faults.fork_silent = True
    await fake.start(replace(spec, memory=template))
    session = await AgentGuest().connect(spec.control)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await session.hello()
    await session.close()


async def test_a_disk_that_fills_up_while_freezing_leaves_no_device_state(fake, spec):
    fake.faults.freeze_error = HostDiskFull()
    await fake.start(replace(spec, memory=RamFile(path=spec.log.with_name("ram"))))
    with pytest.raises(HostDiskFull):
        await fake.freeze(spec.id, spec.log.with_name("devices"))
    assert not spec.log.with_name("devices").exists()


async def test_a_vm_without_a_memory_file_can_not_be_frozen(fake, spec):
    await fake.start(spec)
    with pytest.raises(HostError, match="memory"):
        await fake.freeze(spec.id, spec.log.with_name("devices"))
    assert (await fake.sight(spec.id)).condition is Condition.RUNNING


async def test_a_vm_can_die_while_it_is_paused(fake, spec):
    await fake.start(replace(spec, held=True))
    await fake.pause(spec.id)
    await fake.kill(spec.id)
    await eventually(lambda: fake._sight(spec.id) is None)
    with pytest.raises(HostError):
        await fake.resume(spec.id)


async def test_another_fingerprint_stands_for_another_qemu(fake):
    before = (await fake.open()).fingerprint
    fake.faults.fingerprint = "another QEMU"
    assert (await fake.open()).fingerprint == "another QEMU" != before


async def test_disks_that_were_added_are_noted_in_order(fake, spec, tmp_path):
    disks = [Disk(path=tmp_path / name, format="qcow2") for name in ("b", "a")]
    await fake.start(spec)
    for disk in disks:
        disk.path.touch()
        await fake.plug(spec.id, disk)
    assert fake.plugged(spec.id) == [disk.path for disk in disks]


def _fields(record) -> dict[str, object]:
    return {name: getattr(record, name) for name in type(record).__slots__}


def _running_in(folder: Path) -> list[int]:
    """Return the processes whose working directory or command line lies in `folder`."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _is_in(entry, folder)]


def _is_in(process: Path, folder: Path) -> bool:
    try:
        return os.readlink(process / "cwd").startswith(str(folder))
    except OSError:
        return False
