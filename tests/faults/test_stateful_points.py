"""SIGKILL at every step of jobs that have a workspace, a VM that stays, or both (I1-I6, F1, F75, F81)."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from magpie_local.domain.vm import Condition
from magpie_local.engine.faults import FAULT_POINTS
from magpie_local.testing.processes import is_stopped, kill_tree

KILLED = -signal.SIGKILL
#: Nothing durable has happened yet, so nothing has to come of it.
TOO_EARLY = {"J1.before", "lead.after", "recover.after"}
#: Of a VM's end: on the way of the one that stays only when it is stopped.
ENDING = ["J12.before", "J12.after", "J14.before", "J14.after"]
#: Names of calls are those of stateful_child.
WORKSPACE = ["W1.after", "W2.after", "made", "taken", "mounted"]
DOOR = ["keys", "exposed", "door"]
UP = [point for point in FAULT_POINTS if point not in ENDING]
ADOPTING = ["lead.after", "recover.after"]
ON_THE_WAY = {
    "workspace": [*FAULT_POINTS, *WORKSPACE, "released"],
    # Up to its VM's start it differs in nothing from one with a workspace as well.
    "persistent": [*UP[UP.index("J5.after") :], *DOOR],
    "both": [*UP, *WORKSPACE, *DOOR],
}
AT_THE_STOP = {
    "persistent": [*ENDING, "doorless", "close.before"],
    "both": [*ENDING, "released", "doorless", "close.before"],
}


def each(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(kind, point) for kind, points in table.items() for point in points]


@pytest.mark.parametrize(("kind", "point"), each(ON_THE_WAY))
def test_a_kill_on_the_way_of_a_stateful_job(stateful_rig, vms, watch, kind, point):
    rig = stateful_rig
    assert rig.run_stateful(kind, "first", crash_at=point) == KILLED
    ran = vms.alive() if (rig.tokens / "first").exists() else {}

    assert rig.recover() == 0

    stays = kind != "workspace" and bool(rig.jobs())
    if stays:
        check_kept(rig, vms, ran)
        assert not ran or "adopted" in rig.story(*rig.jobs())
        assert rig.stop() == 0
    check_at_rest(rig)
    states = [job["script_state"] for job in rig.jobs().values()]
    assert states == ["succeeded"] or (point in TOO_EARLY and states == [])
    if states and kind == "workspace":
        check_the_next(rig)
    assert watch.seen > 0 or not states or kind == "persistent"


@pytest.mark.parametrize(("kind", "point"), each(AT_THE_STOP))
def test_a_kill_while_a_vm_that_stays_is_stopped(stateful_rig, vms, watch, kind, point):
    rig = stateful_rig
    assert rig.run_stateful(kind, "first") == 0
    ran = vms.alive()
    assert len(ran) == 1

    assert rig.stop(crash_at=point) == KILLED

    assert rig.recover() == 0
    check_at_rest(rig)
    if kind == "both":
        check_the_next(rig)


@pytest.mark.parametrize("point", ADOPTING)
def test_a_kill_while_a_vm_that_stays_is_adopted(stateful_rig, vms, watch, point):
    rig = stateful_rig
    assert rig.run_stateful("both", "first") == 0
    ran = vms.alive()

    assert rig.recover(crash_at=point) == KILLED

    assert rig.recover() == 0
    check_kept(rig, vms, ran)
    assert "adopted" in rig.story(*rig.jobs())
    assert rig.stop() == 0
    check_at_rest(rig)
    check_the_next(rig)


@pytest.mark.parametrize("point", ["J9.after", "J10.after", "close.before"])
def test_the_end_of_a_vm_that_was_adopted_is_noticed(stateful_rig, vms, point):
    """However it was adopted: while its script ran, before its script's end was recorded, or after."""
    rig = stateful_rig
    assert rig.run_stateful("both", "first", crash_at=point) == KILLED
    keeper = rig.start("lead")
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "kept\n"
    (pid,) = vms.alive().values()

    kill_tree(pid)

    assert keeper.stdout.readline() == "left\n"
    assert rig.finish(keeper) == 0
    rig.check()
    check_the_next(rig)


async def test_a_vm_that_waits_for_space_outlives_its_engine(stateful_rig, vms):
    rig = stateful_rig
    assert rig.run_stateful("both", "first") == 0
    ((vm_id, pid),) = vms.alive().items()
    await vms.pause(vm_id, Condition.DISK_ERROR)
    assert is_stopped(pid)

    keeper = rig.start("lead")
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "kept\n"

    async with asyncio.timeout(20):
        while is_stopped(pid) or [job["vm_state"] for job in rig.jobs().values()] != ["ready"]:
            await asyncio.sleep(0.05)
    check_kept(rig, vms, {vm_id: pid})
    keeper.kill()
    rig.finish(keeper)
    assert rig.stop() == 0
    check_at_rest(rig)


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_real_vm_that_stays_lets_go_of_its_workspace_after_kills(real_rig, real_watch):
    rig = real_rig
    # Its script's token lies in the workspace.
    rig.program, rig.tokens = Path(__file__).with_name("stateful_child.py"), Path("/workspace")
    assert rig.run_stateful("both", "first", crash_at="J10.after") == KILLED
    vms = rig.qemus()
    assert len(vms) == 1

    assert rig.recover() == 0
    assert rig.qemus() == vms
    assert "adopted" in rig.story(*rig.jobs())
    assert rig.stop(crash_at="J12.before") == KILLED
    assert rig.recover() == 0

    assert rig.qemus() == []
    check_at_rest(rig)
    check_the_next(rig)
    assert real_watch.seen > 0


def check_kept(rig, vms, ran: dict[str, int]) -> None:
    """Assert that the one VM that is to stay is there: the very one in which the script ran, where it did."""
    ((job_id, job),) = rig.jobs().items()
    assert (job["script_state"], job["vm_state"]) == ("succeeded", "ready")
    alive = vms.alive()
    assert len(alive) == 1
    assert not ran or alive == ran
    assert [folder.name for folder in (rig.home / "doors").iterdir()] == [job_id]
    assert (rig.home / "doors" / job_id / "door.json").is_file()


def check_at_rest(rig) -> None:
    """Assert that nothing is left but workspaces, each with its disk, let go of cleanly, and in use by nobody."""
    rig.check()
    with closing(sqlite3.connect(rig.home / "magpie.db")) as db:
        rows = db.execute("SELECT id, head, is_clean, in_use_by FROM workspace_records").fetchall()
        named = {f"{disk}.qcow2" for (disk,) in db.execute("SELECT id FROM disks")}
    folder = rig.home / "workspaces"
    for name, head, clean, user in rows:
        assert (name, clean, user) == ("w", 1, None)
        assert (folder / f"{head}.qcow2").is_file()
    assert {path.name for path in folder.glob("*.qcow2")} == named


def check_the_next(rig) -> None:
    """Assert that the next job on the workspace runs, and finds there what the first one left."""
    assert rig.run_stateful("workspace", "next") == 0
    check_at_rest(rig)
    first, last = rig.jobs().values()
    assert last["script_state"] == "succeeded"
    log = rig.home / "jobs" / last["id"] / str(last["attempt"]) / "log"
    assert b"first\n" in log.read_bytes()
    assert first["workspace_id"] == last["workspace_id"] == "w"


def test_every_point_lies_on_the_way(stateful_rig):
    rig = stateful_rig
    for kind in ON_THE_WAY:
        assert rig.run_stateful(kind, kind) == 0
        assert rig.stop() == 0
    check_at_rest(rig)
    assert {*FAULT_POINTS, "W1.after", "W2.after"} <= set(rig.points())
