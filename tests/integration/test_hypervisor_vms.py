"""What real QEMU processes do when they, their guests or their engines end in all sorts of ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.identity import ENTROPY_SIZE, Renewal, mac_of
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.vm import Condition, Disk, VmSight, VmSpec
from magpie_local.errors import HypervisorUnavailable
from magpie_local.guest.channel import AgentGuest
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.hypervisor.processes import find_qemu
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.ports.guest import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

#: An engine that starts the VM described by its arguments and says so.
ENGINE = """
import asyncio, pickle, sys
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.images.catalogue import ImageCatalogue

async def main():
    folder, images, cache, spec = pickle.load(sys.stdin.buffer)
    engine = LibvirtHypervisor(folder, "state", images=ImageCatalogue(images), cache=cache, uri="qemu:///embed")
    await engine.open()
    await engine.start(spec)
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@dataclass
class Bench:
    """A folder, an image, and an embedded hypervisor."""

    folder: Path
    images: Path
    cache: Path
    seen: list[VmSight] = field(default_factory=list)
    specs: list[VmSpec] = field(default_factory=list)

    def connect(self, name: str = "l") -> LibvirtHypervisor:
        return LibvirtHypervisor(
            self.folder / name, "state", images=ImageCatalogue(self.images), cache=self.cache, uri="qemu:///embed"
        )

    async def spec(self) -> VmSpec:
        """Return a VM with its disk, ready to be started."""
        image = await ImageCatalogue(self.images).resolve("base")
        folder = self.folder / str(len(self.specs))
        folder.mkdir(mode=0o700)
        disk = Disk(path=folder / "scratch", format="qcow2")
        await QemuDisks().overlay(disk.path, Disk(path=image.scratch, format="qcow2", readonly=True))
        vm_id = new_vm_id()
        spec = VmSpec(
            id=vm_id, state_id="state", attempt_id=str(uuid.uuid4()), vcpus=1, memory_mb=384, image=image,
            disks=(disk,), control=folder / "control", log=folder / "log", console=folder / "console",
            mac=mac_of(vm_id),
        )  # fmt: skip
        self.specs.append(spec)
        return spec

    async def told(self, condition: Condition, within: float) -> float:
        """Return how long it took until a change to `condition` was reported, in seconds."""
        began = time.monotonic()
        await _eventually(lambda: condition in [sight.condition for sight in self.seen], within)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bench(image_folder: Path, cache: Path) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="mgp") as folder:
        yield Bench(Path(folder), image_folder, cache)


@pytest.fixture
async def hypervisor(bench: Bench) -> AsyncIterator[LibvirtHypervisor]:
    """An open hypervisor that reports to `bench.seen`; its VMs are destroyed afterwards."""
    opened = bench.connect()
    opened.watch(bench.seen.append)
    await opened.open()
    yield opened
    await opened.open()
    for spec in bench.specs:
        await opened.destroy(spec.id)
    await opened.close()


@pytest.fixture
def signal_qemu() -> Iterator[Callable[[VmSpec, int], None]]:
    """Return what sends a signal to a VM's QEMU; stopped ones go on afterwards, so that they can end."""
    pidfds: list[int] = []

    def send(spec: VmSpec, number: int) -> None:
        pidfd = find_qemu([spec.id])[spec.id]
        pidfds.append(pidfd)
        signal.pidfd_send_signal(pidfd, number)

    yield send
    for pidfd in pidfds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        os.close(pidfd)


async def _run(spec: VmSpec, script: bytes) -> None:
    session = await AgentGuest().connect(spec.control)
    await session.hello()
    renewal = Renewal(now=time.time(), entropy=os.urandom(ENTROPY_SIZE))
    order = Order(
        attempt_id=spec.attempt_id, nonce="a-nonce", script=script, env={}, timeout=None, log_limit=1 << 20,
        renewal=renewal,
    )  # fmt: skip
    await session.run(order)
    await session.close()


async def test_qemu_is_confined_and_its_files_are_private(bench, hypervisor):
    spec = await bench.spec()
    await hypervisor.start(spec)
    pid = _pid(spec)
    status = dict(line.split(":\t", 1) for line in _read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert [path.stat().st_mode & 0o777 for path in (spec.control, spec.log, spec.console)] == [0o600] * 3
    assert _listeners(pid) == []


async def test_a_killed_qemu_is_gone_at_once(bench, hypervisor, signal_qemu):
    spec = await bench.spec()
    await hypervisor.start(spec)
    signal_qemu(spec, signal.SIGKILL)
    assert await bench.told(Condition.GONE, within=5) < 0.5
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE
    assert list(await hypervisor.sights()) == []


async def test_an_end_is_told_once(bench, hypervisor, signal_qemu):
    spec = await bench.spec()
    await hypervisor.start(spec)
    signal_qemu(spec, signal.SIGKILL)
    await bench.told(Condition.GONE, within=5)
    # libvirt's own event follows, up to 2 s later.
    await asyncio.sleep(2.5)
    assert [sight.condition for sight in bench.seen].count(Condition.GONE) == 1


async def test_a_stopped_qemu_can_be_destroyed(bench, hypervisor, signal_qemu):
    spec = await bench.spec()
    await hypervisor.start(spec)
    signal_qemu(spec, signal.SIGSTOP)
    assert (await hypervisor.sight(spec.id)).condition is Condition.RUNNING
    # libvirt asks first, and kills after about 12 s (F46).
    await hypervisor.destroy(spec.id)
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE


async def test_many_may_destroy_one_vm(bench, hypervisor):
    spec = await bench.spec()
    await hypervisor.start(spec)
    await asyncio.gather(*(hypervisor.destroy(spec.id) for _ in range(5)))
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE


async def test_a_guest_that_panics_is_gone_with_its_last_words_kept(bench, hypervisor):
    spec = await bench.spec()
    await hypervisor.start(spec)
    await _run(spec, b"sync; echo c > /proc/sysrq-trigger")
    assert await bench.told(Condition.GONE, within=20) < 20
    assert "Kernel panic" in spec.console.read_text(errors="replace")


async def test_a_guest_that_reboots_is_gone(bench, hypervisor):
    spec = await bench.spec()
    await hypervisor.start(spec)
    await _run(spec, b"echo b > /proc/sysrq-trigger")
    await bench.told(Condition.GONE, within=20)
    assert (await hypervisor.sight(spec.id)).condition is Condition.GONE


async def test_vms_of_an_engine_that_was_killed_are_adopted(bench, hypervisor, signal_qemu):
    spec = await bench.spec()
    await hypervisor.close()
    await _start_and_be_killed(bench, spec)
    await hypervisor.open()
    [sight] = await hypervisor.sights()
    assert (sight.id, sight.attempt_id, sight.condition) == (spec.id, spec.attempt_id, Condition.RUNNING)
    signal_qemu(spec, signal.SIGKILL)
    assert await bench.told(Condition.GONE, within=5) < 0.5


async def test_one_process_may_have_several_roots(bench, hypervisor):
    other = bench.connect("other")
    await other.open()
    spec = await bench.spec()
    try:
        await other.start(spec)
        assert [sight.id for sight in await other.sights()] == [spec.id]
        assert list(await hypervisor.sights()) == []
    finally:
        await other.destroy(spec.id)
        await other.close()


async def test_a_root_that_another_process_holds_is_refused_and_free_after_it(bench, hypervisor):
    second = bench.connect()
    with pytest.raises(HypervisorUnavailable, match="Another process has opened"):
        await second.open()
    await hypervisor.close()
    assert (await second.open()).connection == "qemu:///embed"
    await second.close()


async def test_nothing_is_left_of_a_vm_that_was_destroyed(bench, hypervisor):
    async def come_and_go() -> None:
        spec = await bench.spec()
        await hypervisor.start(spec)
        await hypervisor.destroy(spec.id)

    # The first one finds no folders yet.
    await come_and_go()
    await _eventually(lambda: hypervisor._attempts == {}, 10)
    before = _tree(bench.folder / "l")
    await come_and_go()
    await _eventually(lambda: _tree(bench.folder / "l") == before, 10)
    assert hypervisor._attempts == {}


async def _eventually(holds: Callable[[], bool], within: float) -> None:
    async with asyncio.timeout(within):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


async def _start_and_be_killed(bench: Bench, spec: VmSpec) -> None:
    """Have an engine of another process start the VM, and kill that process."""
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENGINE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.write(pickle.dumps((bench.folder / "l", bench.images, bench.cache, spec)))
    engine.stdin.close()
    assert await engine.stdout.readline() == b"started\n"
    engine.kill()
    await engine.wait()


def _pid(spec: VmSpec) -> int:
    pidfd = find_qemu([spec.id])[spec.id]
    try:
        return int(next(line.split()[1] for line in _read(f"/proc/self/fdinfo/{pidfd}").splitlines() if "Pid:" in line))
    finally:
        os.close(pidfd)


def _listeners(pid: int) -> list[str]:
    """Return the internet sockets that a process has open."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    tables = [_read(f"/proc/{pid}/net/{kind}").splitlines()[1:] for kind in ("tcp", "tcp6", "udp", "udp6")]
    return [line for table in tables for line in table if line.split()[9] in inodes]


def _tree(root: Path) -> set[str]:
    # os.walk: libvirt removes folders while this looks.
    walked = ((Path(folder), names) for folder, *both in os.walk(root) for names in both)
    return {str((folder / name).relative_to(root)) for folder, names in walked for name in names}


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
