"""The connection and its host process: budgets, losses, refusals. The host is real; the libvirt in it is a fake."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from magpie_local.domain.vm import Accelerator
from magpie_local.errors import HypervisorTimeout, HypervisorUnavailable
from magpie_local.hypervisor.channel import ChannelLost, LibvirtError
from magpie_local.hypervisor.connection import Connection
from magpie_local.hypervisor.domain_xml import domain_xml
from magpie_local.hypervisor.host import NO_DOMAIN
from magpie_local.hypervisor.place import Place

FAKE = Path(__file__).with_name("fake_libvirt")


@dataclass
class Rig:
    """A connection to a fake libvirt whose whole state is in a folder."""

    folder: Path
    events: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_LIBVIRT": str(self.folder)}
        place = Place("qemu:///session", self.folder, environment)
        self.connection = Connection(place, lambda condition, vm_id: self.events.append((condition, vm_id)))

    def turn(self, switch: str, text: str = "") -> None:
        (self.folder / switch).write_text(text)

    @property
    def hosts(self) -> list[int]:
        """Every host process that opened libvirt, oldest first."""
        return [int(line) for line in (self.folder / "opened").read_text().split()]


@pytest.fixture
async def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    await made.connection.close()


@pytest.fixture
def xml(spec):
    return domain_xml(spec, Accelerator.TCG, "/usr/bin/qemu-system-x86_64")


async def test_verbs_are_answered_and_events_arrive(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    seen = await rig.connection.call("look", spec.id, budget=10)
    await rig.connection.call("destroy", spec.id, budget=10)
    assert (seen["vm"], seen["condition"]) == (spec.id, "running")
    assert 'attempt="an-attempt"' in seen["metadata"]
    assert rig.events == [("running", spec.id), ("gone", spec.id)]


@pytest.mark.parametrize(
    ("state", "condition"),
    [("paused", "paused"), ("ioerror", "disk_error"), ("starting", "starting"), ("crashed", "crashed"),
     ("shutoff", "gone"), ("", "running")],
)  # fmt: skip
async def test_libvirts_states_become_our_conditions(state, condition, rig, spec, xml):
    await rig.connection.call("create", xml.replace("<vcpu>", f"<state>{state}</state><vcpu>"), budget=10)
    assert (await rig.connection.call("look", spec.id, budget=10))["condition"] == condition


async def test_a_domain_without_our_mark_is_not_listed(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    foreign = "99999999-2222-3333-4444-555555555555"
    await rig.connection.call("create", f"<domain><uuid>{foreign}</uuid></domain>", budget=10)
    assert [seen["vm"] for seen in await rig.connection.call("list", budget=10)] == [spec.id]


async def test_libvirts_refusals_carry_their_code(rig, spec):
    with pytest.raises(LibvirtError) as caught:
        await rig.connection.call("look", spec.id, budget=10)
    assert caught.value.code == NO_DOMAIN


async def test_calls_are_answered_in_parallel(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    rig.turn("hang")
    slow = asyncio.create_task(rig.connection.call("look", spec.id, budget=10))
    assert len(await rig.connection.call("list", budget=10)) == 1
    assert not slow.done()
    (rig.folder / "hang").unlink()
    assert (await slow)["vm"] == spec.id


async def test_a_call_that_hangs_ends_with_its_budget_and_the_next_works(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    rig.turn("hang")
    began = time.monotonic()
    with pytest.raises(HypervisorTimeout, match="look"):
        await rig.connection.call("look", spec.id, budget=0.3)
    assert time.monotonic() - began < 2
    (rig.folder / "hang").unlink()
    assert (await rig.connection.call("look", spec.id, budget=10))["vm"] == spec.id
    assert len(rig.hosts) == 2


async def test_a_killed_host_is_replaced_and_the_vms_are_found_again(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    os.kill(rig.hosts[0], signal.SIGKILL)
    assert [seen["vm"] for seen in await rig.connection.call("list", budget=10)] == [spec.id]
    assert len(rig.hosts) == 2


async def test_a_host_killed_within_a_call_is_replaced_for_the_same_call(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    rig.turn("hang")
    look = asyncio.create_task(rig.connection.call("look", spec.id, budget=10))
    await asyncio.sleep(0.1)
    (rig.folder / "hang").unlink()
    os.kill(rig.hosts[0], signal.SIGKILL)
    assert (await look)["vm"] == spec.id


async def test_a_start_is_never_tried_twice_by_itself(rig, xml):
    await rig.connection.call("list", budget=10)
    rig.turn("die")
    with pytest.raises(ChannelLost):
        await rig.connection.call("create", xml, budget=10, again=False)
    assert list((rig.folder / "domains").iterdir()) == []
    assert len(rig.hosts) == 1


async def test_a_qemu_left_to_itself_is_the_hosts_child_and_reaped_as_soon_as_it_ends(rig, xml):
    rig.turn("daemonize")
    await rig.connection.call("create", xml, budget=10)
    pid = int((rig.folder / "emulator").read_text())
    parent = _parent_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert parent == rig.hosts[0]
    assert await asyncio.to_thread(_is_gone_soon, pid)


async def test_a_daemon_that_went_away_is_met_again(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    rig.turn("dead")
    look = asyncio.create_task(rig.connection.call("look", spec.id, budget=10))
    await asyncio.sleep(0.3)
    (rig.folder / "dead").unlink()
    assert (await look)["vm"] == spec.id
    assert len(rig.hosts) > 1


async def test_a_refused_first_open_is_told_at_once(rig):
    rig.turn("refuse", "no hypervisor here")
    began = time.monotonic()
    with pytest.raises(HypervisorUnavailable, match="no hypervisor here"):
        await rig.connection.call("list", budget=10)
    assert time.monotonic() - began < 5


async def test_a_root_that_is_released_soon_is_waited_for(rig):
    rig.turn("refuse", "Failed to acquire pid file '/r/driver.pid': Resource temporarily unavailable")
    listing = asyncio.create_task(rig.connection.call("list", budget=10))
    await asyncio.sleep(0.3)
    (rig.folder / "refuse").unlink()
    assert await listing == []


async def test_a_root_that_stays_with_another_process_is_refused_with_the_cure(rig):
    rig.turn("refuse", "Failed to acquire pid file '/r/driver.pid': Resource temporarily unavailable")
    with pytest.raises(HypervisorUnavailable, match="Another process") as caught:
        await rig.connection.call("list", budget=20)
    assert "MAGPIE_HOME" in caught.value.hint


async def test_without_libvirt_the_cure_is_named(rig, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libvirt.py").write_text("raise ImportError('libvirt.so.0: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": str(broken)}
    connection = Connection(Place("qemu:///session", tmp_path, environment), lambda *_: None)
    with pytest.raises(HypervisorUnavailable, match=r"libvirt\.so\.0") as caught:
        await connection.call("list", budget=10)
    await connection.close()
    assert "libvirt-dev" in caught.value.hint


async def test_closing_ends_the_host_and_leaves_the_vms(rig, xml):
    await rig.connection.call("create", xml, budget=10)
    await rig.connection.close()
    await rig.connection.close()
    assert not _is_there(rig.hosts[0])
    assert len(list((rig.folder / "domains").iterdir())) == 1
    with pytest.raises(HypervisorUnavailable, match="closed"):
        await rig.connection.call("list", budget=10)


async def test_a_host_that_hangs_is_closed_all_the_same(rig, spec, xml):
    await rig.connection.call("create", xml, budget=10)
    rig.turn("hang")
    look = asyncio.create_task(rig.connection.call("look", spec.id, budget=10))
    await asyncio.sleep(0.1)
    await rig.connection.close()
    assert not _is_there(rig.hosts[0])
    with pytest.raises(HypervisorUnavailable):
        await look


async def test_a_forked_child_may_not_use_its_parents_connection(rig):
    await rig.connection.call("list", budget=10)
    channel = rig.connection._channel
    channel._owner += 1
    with pytest.raises(HypervisorUnavailable, match="fork"):
        await rig.connection.call("list", budget=10)


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _is_gone_soon(pid: int) -> bool:
    deadline = time.monotonic() + 1
    while _is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _is_there(pid)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
