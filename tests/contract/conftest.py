"""The worlds that the contract suites run in: one factory function per hypervisor."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import signal
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.exitrecord import parse_exit
from magpie_local.domain.frames import EXIT, STDERR, STDOUT, LogReader
from magpie_local.domain.identity import ENTROPY_SIZE, Renewal, mac_of
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.vm import Condition, Disk, RamFile, Snapshot, VmSpec
from magpie_local.guest.channel import AgentGuest
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.hypervisor.meter import QemuMeter
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.ports.guest import Order
from magpie_local.testing import FakeDisks, FakeHypervisor, FakeImages, FakeMeter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from magpie_local.domain.exitrecord import ExitRecord
    from magpie_local.domain.vm import BootImage
    from magpie_local.ports.guest import GuestSession
    from magpie_local.ports.hypervisor import Disks, Hypervisor
    from magpie_local.ports.images import Images
    from magpie_local.ports.meter import Meter


WHO = {
    "hostname": "hostname", "machine_id": "cat /etc/machine-id", "boot_id": "cat /proc/sys/kernel/random/boot_id",
    "mac": "cat /sys/class/net/eth0/address", "host_key": "cat /etc/ssh/ssh_host_ed25519_key",
    "host_key_public": "cat /etc/ssh/ssh_host_ed25519_key.pub", "now": "date +%s",
}  # fmt: skip


@dataclass(kw_only=True)
class World:
    """One hypervisor with what a VM on it needs."""

    folder: Path
    #: Makes a hypervisor object for a state id at the same place; call it again for a second one.
    connect: Callable[[str], Hypervisor]
    disks: Disks
    meter: Meter
    image: BootImage
    state_id: str = "state-1"
    #: Seconds within which a VM's agent must answer, and one must be gone.
    patience: float = 10.0
    #: Commands that show the fields of a VM's identity and, as `now`, its clock.
    who: Mapping[str, str] = field(default_factory=lambda: WHO)
    #: The guest has one CPU of its own, so the order of its writes is the order in the log.
    one_cpu: bool = True
    #: Its guests see disks.
    has_disks: bool = True
    #: Python that makes a hypervisor as `connect` does, in another process.
    code: str = ""
    started: list[VmSpec] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def eventually(self, holds: Callable[[], bool]) -> None:
        """Return as soon as `holds` is true."""
        async with asyncio.timeout(self.patience):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.01)

    async def spec(
        self, *, state_id: str | None = None, base: Disk | None = None, memory: RamFile | Snapshot | None = None,
        held: bool = False,
    ) -> VmSpec:  # fmt: skip
        """Return a VM that may be started, with its disk on `base` (the image's unless told)."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        scratch = Disk(path=folder / "scratch", format="qcow2")
        await self.disks.overlay(scratch.path, base or Disk(path=self.image.scratch, format="qcow2", readonly=True))
        vm_id = new_vm_id()
        spec = VmSpec(
            id=vm_id, state_id=state_id or self.state_id, attempt_id=str(uuid.uuid4()), vcpus=1, memory_mb=384,
            image=self.image, disks=(scratch,), control=folder / "control", log=folder / "log",
            console=folder / "console.log", mac=mac_of(vm_id), memory=memory, held=held,
        )  # fmt: skip
        self.started.append(spec)
        return spec


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a world is built from."""

    #: Short: sockets lie below it.
    folder: Path
    images: Images
    #: Shared by all tests of a run, so that QEMU's capabilities and the verdict on KVM are found out once.
    cache: Path
    request: pytest.FixtureRequest


async def make_fake(bench: Bench) -> World:
    """Return a world of the fake hypervisor."""
    return World(
        folder=bench.folder,
        connect=lambda state_id: FakeHypervisor(bench.folder / "registry", state_id),
        disks=FakeDisks(),
        meter=FakeMeter(bench.folder / "registry"),
        image=await bench.images.resolve("base"),
        who={name: f"cat .magpie/{name}" for name in WHO} | {"now": "cut -d. -f1 .magpie/now"},
        one_cpu=False,
        has_disks=False,
        code=f"FakeHypervisor(Path({str(bench.folder / 'registry')!r}), 'state-1')",
    )


async def make_embed(bench: Bench) -> World:
    """Return a world of `qemu:///embed`."""
    return await _libvirt_world(bench, "qemu:///embed")


async def make_session(bench: Bench) -> World:
    """Return a world of `qemu:///session`, with a daemon of this test run's own."""
    bench.request.getfixturevalue("session_daemon")
    return await _libvirt_world(bench, "qemu:///session")


async def _libvirt_world(bench: Bench, uri: str) -> World:
    def connect(state_id: str) -> LibvirtHypervisor:
        return LibvirtHypervisor(bench.folder / "l", state_id, images=bench.images, cache=bench.cache, uri=uri)

    image = await bench.images.resolve("base")
    images = f"ImageCatalogue(Path({str(image.root.parents[2])!r}))"
    code = (
        f"LibvirtHypervisor(Path({str(bench.folder / 'l')!r}), 'state-1', images={images}, "
        f"cache=Path({str(bench.cache)!r}), uri={uri!r})"
    )
    return World(
        folder=bench.folder, connect=connect, disks=QemuDisks(), meter=QemuMeter(), image=image, patience=60.0,
        code=code,
    )  # fmt: skip


_VM = [pytest.mark.vm, pytest.mark.timeout(300)]
_WORLDS = [pytest.param(make_fake, id="fake"), pytest.param(make_embed, id="embed", marks=_VM)]
# libvirt has no session for root: there integration/test_hypervisor_ordinary_user.py runs these tests as another user.
if os.geteuid() != 0:
    _WORLDS.append(pytest.param(make_session, id="session", marks=_VM))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of this run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def session_daemon() -> Iterator[None]:
    """A runtime folder for the session's daemons, which are ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="mgp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        yield
        for pid_file in Path(folder).glob("libvirt/*.pid"):
            _end(int(pid_file.read_text()))


def _end(pid: int) -> None:
    """End a process that is no child of ours, and return when it has."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [], 10)
        os.close(pidfd)


@pytest.fixture
def bench(request: pytest.FixtureRequest, cache: Path) -> Iterator[Bench]:
    """A place for one test's world."""
    with tempfile.TemporaryDirectory(prefix="mgp") as name:
        folder = Path(name)
        # Building an image takes a loop of its own, so it is asked for here, where none runs.
        real = request.node.get_closest_marker("vm") is not None
        images = ImageCatalogue(request.getfixturevalue("image_folder")) if real else FakeImages(folder / "images")
        yield Bench(folder=folder, images=images, cache=cache, request=request)


@pytest.fixture(params=_WORLDS)
async def world(request: pytest.FixtureRequest, bench: Bench) -> World:
    """One hypervisor per parameter, and what a VM on it needs."""
    made: World = await request.param(bench)
    return made


@pytest.fixture
async def hypervisor(world: World) -> AsyncIterator[Hypervisor]:
    """An open hypervisor; every VM that the test asked for is destroyed afterwards."""
    opened = world.connect(world.state_id)
    await opened.open()
    yield opened
    await opened.close()
    for state_id in {spec.state_id for spec in world.started}:
        # One at a time: an embedded hypervisor belongs to one object.
        owner = world.connect(state_id)
        await owner.open()
        await asyncio.gather(*(owner.destroy(spec.id) for spec in world.started if spec.state_id == state_id))
        await owner.close()


@dataclass
class Log:
    """The frames in a VM's log file."""

    frames: list[tuple[int, int, bytes]]

    def output(self, *kinds: int) -> bytes:
        """Return the joined payloads of these kinds (stdout and stderr unless told), in order."""
        return b"".join(payload for kind, _, payload in self.frames if kind in (kinds or (STDOUT, STDERR)))

    @property
    def kinds(self) -> list[int]:
        """The frames' kinds, in order."""
        return [kind for kind, _, _ in self.frames]

    @property
    def exit(self) -> ExitRecord | None:
        """The exit record."""
        return parse_exit(self.output(EXIT), "a-nonce")


@dataclass
class Runner:
    """Starts one VM, opens its channel, runs one script."""

    world: World
    hypervisor: Hypervisor

    async def gone(self, spec: VmSpec) -> None:
        """Return when the VM has gone by itself."""
        async with asyncio.timeout(self.world.patience):
            while True:
                if (await self.hypervisor.sight(spec.id)).condition is Condition.GONE:
                    return
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[VmSpec, GuestSession]]:
        """Start a VM and wait for its agent."""
        spec = await self.world.spec()
        await self.hypervisor.start(spec)
        session = await AgentGuest().connect(spec.control)
        try:
            async with asyncio.timeout(self.world.patience):
                await session.hello()
            yield spec, session
        finally:
            await session.close()

    def order(
        self, spec: VmSpec, script: bytes, *, env: Mapping[str, str] | None = None, timeout: float | None = None,
        log_limit: int = 16 * 1024 * 1024, now: float | None = None,
    ) -> Order:  # fmt: skip
        """Return an order for the VM's attempt."""
        return Order(
            attempt_id=spec.attempt_id, nonce="a-nonce", script=script, env=env or {}, timeout=timeout,
            log_limit=log_limit, renewal=self.renewal(now),
        )  # fmt: skip

    def renewal(self, now: float | None = None) -> Renewal:
        """Return fresh randomness and the time, or another time."""
        return Renewal(now=time.time() if now is None else now, entropy=os.urandom(ENTROPY_SIZE))

    def log(self, spec: VmSpec) -> Log:
        """Return what is in the VM's log now."""
        return Log(LogReader().feed(spec.log.read_bytes()))

    async def log_with_exit(self, spec: VmSpec) -> Log:
        """Return the log once its exit record is there."""
        await self.world.eventually(lambda: self.log(spec).exit is not None)
        return self.log(spec)

    async def wait_for_output(self, spec: VmSpec, text: bytes) -> None:
        """Return when the script has written `text`."""
        await self.world.eventually(lambda: text in self.log(spec).output())

    async def run(
        self, script: bytes, *, env: Mapping[str, str] | None = None, timeout: float | None = None,
        log_limit: int = 16 * 1024 * 1024,
    ) -> Log:  # fmt: skip
        """Run a script to its end and return its log."""
        async with self.session() as (spec, session):
            await session.run(self.order(spec, script, env=env, timeout=timeout, log_limit=log_limit))
            await session.exited()
            return await self.log_with_exit(spec)


@pytest.fixture
def runner(world: World, hypervisor: Hypervisor) -> Runner:
    return Runner(world, hypervisor)
