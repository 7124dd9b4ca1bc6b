"""The worlds that the contract suites run in: one factory function per hypervisor."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.exitrecord import parse_exit
from magpie_local.domain.frames import EXIT, STDERR, STDOUT, LogReader
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.vm import Condition, Disk, VmSpec
from magpie_local.guest.channel import AgentGuest
from magpie_local.ports.guest import Order
from magpie_local.testing import FakeDisks, FakeHypervisor, FakeImages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from magpie_local.domain.exitrecord import ExitRecord
    from magpie_local.domain.vm import BootImage
    from magpie_local.ports.guest import GuestSession
    from magpie_local.ports.hypervisor import Disks, Hypervisor


@dataclass(kw_only=True)
class World:
    """One hypervisor with what a VM on it needs."""

    folder: Path
    #: Makes a hypervisor object for a state id at the same place; call it again for a second one.
    connect: Callable[[str], Hypervisor]
    disks: Disks
    image: BootImage
    state_id: str = "state-1"
    #: Seconds within which a VM's agent must answer, and one must be gone.
    patience: float = 10.0
    #: The guest has one CPU of its own, so the order of its writes is the order in the log.
    one_cpu: bool = True
    started: list[VmSpec] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def eventually(self, holds: Callable[[], bool]) -> None:
        """Return as soon as `holds` is true."""
        async with asyncio.timeout(self.patience):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.01)

    async def spec(self, *, state_id: str | None = None) -> VmSpec:
        """Return a VM that may be started, with its disk."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        scratch = Disk(path=folder / "scratch", format="qcow2")
        await self.disks.overlay(scratch.path, Disk(path=self.image.scratch, format="qcow2", readonly=True))
        spec = VmSpec(
            id=new_vm_id(), state_id=state_id or self.state_id, attempt_id=str(uuid.uuid4()), vcpus=1, memory_mb=384,
            image=self.image, disks=(scratch,), control=folder / "control", log=folder / "log",
            console=folder / "console.log",
        )  # fmt: skip
        self.started.append(spec)
        return spec


async def make_fake(tmp_path: Path) -> World:
    """Return a world of the fake hypervisor."""
    folder = tmp_path / "vms"
    folder.mkdir()
    return World(
        folder=folder,
        connect=lambda state_id: FakeHypervisor(tmp_path / "registry", state_id),
        disks=FakeDisks(),
        image=await FakeImages(tmp_path / "images").resolve("base"),
        one_cpu=False,
    )


async def make_embed(tmp_path: Path) -> World:
    """Return a world of `qemu:///embed`."""
    pytest.skip("the libvirt adapter has no contract world yet")


async def make_session(tmp_path: Path) -> World:
    """Return a world of `qemu:///session`."""
    pytest.skip("the libvirt adapter has no contract world yet")


_VM = [pytest.mark.vm, pytest.mark.timeout(300)]


@pytest.fixture(
    params=[
        pytest.param(make_fake, id="fake"),
        pytest.param(make_embed, id="embed", marks=_VM),
        pytest.param(make_session, id="session", marks=_VM),
    ]
)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """One hypervisor per parameter, and what a VM on it needs."""
    made: World = await request.param(tmp_path)
    return made


@pytest.fixture
async def hypervisor(world: World) -> AsyncIterator[Hypervisor]:
    """An open hypervisor; every VM that the test asked for is destroyed afterwards."""
    opened = world.connect(world.state_id)
    await opened.open()
    yield opened
    for spec in world.started:
        owner = opened if spec.state_id == world.state_id else world.connect(spec.state_id)
        await owner.open()
        await owner.destroy(spec.id)
        if owner is not opened:
            await owner.close()
    await opened.close()


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
        log_limit: int = 16 * 1024 * 1024,
    ) -> Order:  # fmt: skip
        """Return an order for the VM's attempt."""
        return Order(
            attempt_id=spec.attempt_id, nonce="a-nonce", script=script, env=env or {}, timeout=timeout,
            log_limit=log_limit,
        )  # fmt: skip

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
