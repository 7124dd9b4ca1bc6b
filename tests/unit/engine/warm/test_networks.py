"""What is behind the cards of VMs by the time that they get a job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from magpie_local.domain.network import GuestConfig, network_spec
from magpie_local.domain.shape import Shape
from magpie_local.domain.states import EventKind, ScriptState
from magpie_local.engine.context import WarmOptions
from magpie_local.engine.warm import policy
from magpie_local.engine.warm.report import read_report
from magpie_local.errors import NetworkUnavailable
from magpie_local.guest.channel import AgentSession

pytestmark = pytest.mark.usefixtures("at_once")

SHAPE = Shape("base", 1, 256)
WARM = WarmOptions(
    templates_size=1024**3, pool=1, pool_memory_mb=10 * policy.FORK_COST_MB, pool_shapes=(SHAPE,), network="default"
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[GuestConfig]:
    """Return what guests are told of their networks, as it is said."""
    said: list[GuestConfig] = []
    join = AgentSession.join

    async def noting(self: AgentSession, network: GuestConfig) -> None:
        said.append(network)
        await join(self, network)

    monkeypatch.setattr(AgentSession, "join", noting)
    return said


async def fork(driven: Any) -> Any:
    """Return the fork that waits in a pool of one, once it does."""
    async with asyncio.timeout(20):
        while True:
            report = read_report(driven.ports.layout.pool_report)
            if report is not None and any(report.waiting.values()):
                (found,) = [sight.id for sight in await driven.hypervisor.sights() if sight.attempt_id == "pool"]
                return found
            await asyncio.sleep(0.02)


async def running(driven: Any, **fields: Any) -> Any:
    """Return the VM of a job that runs on it now, after checking that it waited for it."""
    job = await driven.running(await driven.submit("sleep 300", **fields))
    assert job.start == "pool"
    (vm_id,) = [attempt.vm_id for one, attempt in await driven.ports.leader.unsettled() if one.id == job.id]
    return vm_id


async def test_a_fork_is_on_the_default_network_before_a_job_comes(world, told):
    async with world.engine(warm=WARM) as driven:
        waiting = await fork(driven)
        assert driven.ports.networks.attached == {waiting: "default"}
        said = len(told)
        assert await running(driven, network="default") == waiting
        assert driven.ports.networks.attached[waiting] == "default"
        assert len(told) == said, "the guest knew it all"


@pytest.mark.parametrize("network", ["none", "lab"])
async def test_a_job_that_wants_another_network_gets_that_and_nothing_else(world, told, network):
    async with world.engine(warm=WARM) as driven:
        await driven.ports.network_store.create(network_spec("lab", "10.77.0.0/24"))
        waiting = await fork(driven)
        assert await running(driven, network=network) == waiting
        assert driven.ports.networks.attached.get(waiting, "none") == network


async def test_a_fork_that_goes_leaves_nothing_of_its_network(world):
    async with world.engine(warm=WARM) as driven:
        waiting = await fork(driven)
        await driven.hypervisor.destroy(waiting)
        async with asyncio.timeout(20):
            while waiting in driven.ports.networks.attached:
                await asyncio.sleep(0.02)


async def test_where_networks_lack_something_jobs_say_so_and_start_no_vm(world, monkeypatch):
    async def refuse(self: object, *_: object) -> GuestConfig:
        raise NetworkUnavailable("no passt", hint="apt-get install passt")

    monkeypatch.setattr("magpie_local.testing.networks.FakeNetworks.attach_default", refuse)
    monkeypatch.setattr("magpie_local.testing.networks.FakeNetworks.expect_default", refuse)
    async with world.engine(warm=WARM) as driven:
        await fork(driven)  # it waits all the same, for jobs that want none
        job = await driven.ended(await driven.submit("true", network="default"))
        assert job.script_state is ScriptState.FAILED
        assert "apt-get install passt" in str(job.message)
        assert EventKind.VM_BOOTING.value not in await driven.kinds(job.id)
        plain = await driven.ended(await driven.submit("true", network="none"))
        assert plain.script_state is ScriptState.SUCCEEDED
