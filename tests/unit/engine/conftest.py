"""Records to decide on, and a world with any number of engines on one state directory."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.ids import JobId, VmId, new_job_id, new_vm_id
from magpie_local.domain.job import Attempt, JobRecord
from magpie_local.domain.layout import Layout
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.states import ScriptState, VmState
from magpie_local.domain.vm import Condition
from magpie_local.engine.context import Options, Ports
from magpie_local.engine.engine import Engine
from magpie_local.guest.channel import AgentGuest
from magpie_local.guest.ssh.doors import SshDoors
from magpie_local.guest.vault import FileVault
from magpie_local.ports.clock import SystemClock
from magpie_local.store.store import open_store
from magpie_local.testing import (
    FakeDisks,
    FakeDoorbells,
    FakeHypervisor,
    FakeImages,
    FakeMeter,
    FakeNetworks,
    FakeSleepers,
    Faults,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from magpie_local.domain.job import Event


@pytest.fixture(scope="session")
def a_job() -> Callable[..., JobRecord]:
    """Make a queued job, but for the fields given."""

    def make(**fields: Any) -> JobRecord:
        usual: dict[str, Any] = dict.fromkeys(JobRecord.__dataclass_fields__)
        usual |= {
            "seq": 1, "id": new_job_id(), "name": "job", "description": "", "vcpus": 1, "memory_mb": 512, "env": {},
            "secret_names": (), "persistent": False, "idle_pause": None, "wish": None,
            "network": "none", "outputs": (), "outputs_limit": 0,
            "image": "base", "log_limit": 1024 * 1024, "isolation": "shared",
            "script_state": ScriptState.QUEUED,
            "vm_state": VmState.NONE, "attempt": 0, "created_at": 100.0,
        }  # fmt: skip
        return JobRecord(**usual | fields)

    return make


@pytest.fixture(scope="session")
def an_attempt() -> Callable[..., Attempt]:
    """Make a first attempt, but for the fields given."""

    def make(**fields: Any) -> Attempt:
        usual: dict[str, Any] = {
            "job_id": new_job_id(), "number": 1, "vm_id": new_vm_id(), "nonce": "b1e5", "boot_id": "boot-1",
            "claimed_at": 100.0,
        }  # fmt: skip
        return Attempt(**usual | fields)

    return make


class RebootingClock(SystemClock):
    """The host's clocks, a boot that a test can end, and a wall clock that it can set."""

    boot = "boot-1"
    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.ahead += seconds

    def boot_id(self) -> str:
        return self.boot


@dataclass
class World:
    """One state directory on the fake hypervisor."""

    layout: Layout
    faults: Faults = field(default_factory=Faults)
    disks: FakeDisks = field(default_factory=FakeDisks)
    doorbells: FakeDoorbells = field(default_factory=FakeDoorbells)
    clock: RebootingClock = field(default_factory=RebootingClock)
    options: Options = field(default_factory=lambda: Options(cpus=4, memory_mb=4096, stop_grace=1.0))
    state_id: str = ""

    @asynccontextmanager
    async def engine(self, *, lead: bool = True, **options: Any) -> AsyncIterator[Driven]:
        """Yield an open engine; several at once behave as those of several processes."""
        async with open_store(self.layout, self.clock) as store:
            self.state_id = store.state_id
            hypervisor = FakeHypervisor(self.layout.hypervisor, store.state_id, self.faults)
            sleepers = FakeSleepers(hypervisor)
            key = self.layout.root.parent / "config" / "secret.key"
            ports = Ports(
                layout=self.layout, state_id=store.state_id, clock=self.clock, jobs=store.jobs, wishes=store.jobs,
                leader=store.leader,
                workspaces=store.workspaces, workspace_use=store.leader.workspaces, network_store=store.networks,
                networks=FakeNetworks(),
                hypervisor=hypervisor, vms=hypervisor, meter=FakeMeter(self.layout.hypervisor),
                sleepers=sleepers, doorbells=self.doorbells,
                disks=self.disks, guest=AgentGuest(),
                vault=FileVault(key), doors=SshDoors(self.layout.doors),
                images=FakeImages(self.layout.hypervisor / "images"),
            )  # fmt: skip
            engine = Engine(ports, replace(self.options, **options))
            await engine.open(lead=lead)
            try:
                yield Driven(engine, ports, hypervisor, sleepers)
            finally:
                await engine.close()

    async def destroy_all(self) -> int:
        """Destroy what VMs are left; return how many there were."""
        hypervisor = FakeHypervisor(self.layout.hypervisor, self.state_id)
        sights = await hypervisor.sights()
        for sight in sights:
            await hypervisor.destroy(sight.id)
        return len(sights)


@dataclass
class Driven:
    """An open engine, and short words for what tests do with it."""

    engine: Engine
    ports: Ports
    hypervisor: FakeHypervisor
    sleepers: FakeSleepers

    async def submit(self, script: str, **fields: Any) -> JobId:
        """Accept a job."""
        usual: dict[str, Any] = {"name": "job", "script": script.encode(), "memory_mb": 256}
        (job,) = await self.ports.jobs.add([(new_job_id(), JobSpec(**usual | fields))])
        self.engine.bell.ring()
        return job.id

    async def job(self, job_id: JobId) -> JobRecord:
        """Return a job as it is now."""
        job = await self.ports.jobs.get(job_id)
        assert job is not None
        return job

    async def until(
        self, job_id: JobId, holds: Callable[[JobRecord], bool], *, within: float = 20.0
    ) -> JobRecord:  # fmt: skip
        """Return the job as soon as something holds of it."""
        async with asyncio.timeout(within):
            while True:
                ring = self.engine.bell.listen()
                if holds(job := await self.job(job_id)):
                    return job
                await self.engine.bell.wait(ring, 0.05)

    async def ended(self, job_id: JobId, *, within: float = 20.0) -> JobRecord:
        """Return the job once it is final and its VM is gone."""
        return await self.until(job_id, lambda job: job.is_settled, within=within)

    async def running(self, job_id: JobId) -> JobRecord:
        """Return the job once its script runs."""
        return await self.until(job_id, lambda job: job.script_state is ScriptState.RUNNING)

    async def vm(self, job_id: JobId) -> VmId:
        """Return the VM of a job once it runs."""
        async with asyncio.timeout(20.0):
            while True:
                for sight in await self.hypervisor.sights():
                    if sight.attempt_id.startswith(job_id) and sight.condition is Condition.RUNNING:
                        return sight.id
                await asyncio.sleep(0.01)

    async def stop(self, job_id: JobId) -> JobRecord | None:
        """Leave a stop request."""
        job = await self.ports.jobs.request_stop(job_id)
        self.engine.bell.ring()
        return job

    async def story(self, job_id: JobId) -> list[Event]:
        """Return what happened to a job."""
        return await self.ports.jobs.story(job_id)

    async def kinds(self, job_id: JobId) -> list[str]:
        """Return the kinds of what happened to a job."""
        return [event.kind.value for event in await self.story(job_id)]

    async def output(self, job_id: JobId) -> bytes:
        """Return the log's bytes, frames and all."""
        job = await self.job(job_id)
        return await asyncio.to_thread(self.ports.layout.attempt(job_id, job.attempt).log.read_bytes)


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="mag", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def world(short: Path) -> AsyncIterator[World]:
    """Return an empty state directory; whatever VMs a test leaves there are destroyed."""
    made = World(Layout(root=short / "state", run=short / "state" / "run"))
    yield made
    await made.destroy_all()
