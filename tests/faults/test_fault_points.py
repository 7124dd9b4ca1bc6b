"""SIGKILL at every named point of a job's life, and at every point of the recovery from it (F1, F2, I1-I6, I9, I13)."""

from __future__ import annotations

import signal

import pytest

from magpie_local.engine.faults import FAULT_POINTS

KILLED = -signal.SIGKILL
#: Nothing durable has happened yet, so nothing has to come of it.
TOO_EARLY = {"J1.before", "lead.after", "recover.after"}
RECOVERY_POINTS = ["lead.after", "recover.after", "J10.after", "J11.after", "J12.before", "J12.after", "J14.before"]


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_a_job_survives_a_kill_at_the_point(rig, point):
    status = rig.submit(crash_at=point)

    assert status == KILLED
    assert rig.points()[-1] == point
    assert rig.recover() == 0
    rig.check()
    states = [job["script_state"] for job in rig.jobs().values()]
    assert states == ["succeeded"] or (point in TOO_EARLY and states == [])


@pytest.mark.parametrize("point", ["J2.after", "J6.after", "J9.after", "J7.after", "J10.after", "J11.after"])
def test_a_failing_script_keeps_its_exit_code_through_a_kill(rig, point):
    status = rig.submit(style="failing", crash_at=point)

    assert status == KILLED
    assert rig.recover() == 0
    rig.check()
    assert [(job["script_state"], job["exit_code"]) for job in rig.jobs().values()] == [("failed", 7)]


@pytest.mark.parametrize("second", RECOVERY_POINTS)
@pytest.mark.parametrize("first", ["J5.after", "J7.after", "J11.after"])
def test_a_kill_during_recovery_changes_nothing(rig, first, second):
    assert rig.submit(crash_at=first) == KILLED

    rig.recover(crash_at=second)

    assert rig.recover() == 0
    rig.check()
    assert [job["script_state"] for job in rig.jobs().values()] == ["succeeded"]


def test_a_job_outlives_many_engines_that_die_while_they_start_it(rig):
    assert rig.submit(crash_at="J5.after") == KILLED

    for _ in range(5):
        assert rig.recover(crash_at="J5.after") == KILLED

    assert rig.recover() == 0
    rig.check()
    assert [(job["script_state"], job["attempt"]) for job in rig.jobs().values()] == [("succeeded", 7)]


def test_every_fault_point_lies_on_the_way_of_a_plain_job(rig):
    assert rig.submit() == 0

    # Each new leader also sweeps the disks of workspaces.
    assert set(rig.points()) == {*FAULT_POINTS, "W3.after"}
    assert rig.accepted == list(rig.jobs()), "the child tells what it was promised"
