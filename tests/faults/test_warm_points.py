"""SIGKILL while a template is made, a fork is started or claimed, and the pool is filled: nothing stays behind."""

from __future__ import annotations

import signal

import pytest

from magpie_local.engine.faults import WARM_POINTS

KILLED = -signal.SIGKILL
#: On the way of a job whose VM is a fork; the second time: the first job boots cold.
CLAIM_POINTS = ["J2.after", "J4.before", "J4.after", "J5.after", "J6.after", "J8.after", "J9.after", "J11.after"]


@pytest.fixture
def warm_rig(rig):
    rig.env |= {"MAGPIE_TEMPLATES": "1GiB", "MAGPIE_POOL": "1", "MAGPIE_POOL_MEMORY": "1GiB"}
    return rig


@pytest.mark.parametrize("point", WARM_POINTS)
def test_a_kill_behind_the_jobs_leaves_nothing_and_warm_starts_come_all_the_same(warm_rig, point):
    assert warm_rig.finish(warm_rig.start("warm", str(warm_rig.tokens), crash_at=point)) == KILLED
    assert warm_rig.points()[-1] == point

    assert warm_rig.finish(warm_rig.start("warm", str(warm_rig.tokens))) == 0

    warm_rig.check()
    assert warm_rig.starts()[-1] == "pool"


@pytest.mark.parametrize("point", CLAIM_POINTS)
def test_a_kill_while_a_waiting_fork_is_claimed_starts_the_script_once(warm_rig, point):
    assert warm_rig.finish(warm_rig.start("warm", str(warm_rig.tokens))) == 0
    passed = len(warm_rig.points())

    assert warm_rig.finish(warm_rig.start("pooled", str(warm_rig.tokens), crash_at=point)) == KILLED

    assert warm_rig.points()[passed:][-1] == point
    assert warm_rig.recover() == 0
    warm_rig.check()


def test_every_warm_point_lies_on_the_way_to_a_pooled_start(warm_rig):
    assert warm_rig.finish(warm_rig.start("warm", str(warm_rig.tokens))) == 0

    assert set(WARM_POINTS) <= set(warm_rig.points())


@pytest.mark.vm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["T2.after", "P1.after", "P2.after"])
def test_a_kill_behind_real_jobs_leaves_no_vm(real_rig, point):
    real_rig.env |= {"MAGPIE_TEMPLATES": "2GiB", "MAGPIE_POOL": "1", "MAGPIE_POOL_MEMORY": "1GiB"}

    assert real_rig.finish(real_rig.start("warm", str(real_rig.tokens), crash_at=point)) == KILLED
    assert real_rig.finish(real_rig.start("warm-guest", str(real_rig.tokens))) == 0

    real_rig.check()
    assert real_rig.starts() == ["pool"]


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_real_fork_that_is_killed_with_its_engine_runs_its_script_once(real_rig):
    real_rig.env |= {"MAGPIE_TEMPLATES": "2GiB", "MAGPIE_POOL": "1", "MAGPIE_POOL_MEMORY": "1GiB"}
    for point in ("J2.after", "J6.after", "J9.after"):
        crash = real_rig.start("warm-guest", str(real_rig.tokens), crash_at=point)
        assert real_rig.finish(crash) == KILLED
        # Of whichever job: each process takes up first what the one before has left.
        assert real_rig.points()[-1] == point

    assert real_rig.recover() == 0

    real_rig.check()
    states = {job["script_state"] for job in real_rig.jobs().values()}
    assert states == {"succeeded"}


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_twenty_real_forks_are_claimed_at_once_by_two_processes(real_rig):
    real_rig.env |= {"MAGPIE_TEMPLATES": "2GiB", "MAGPIE_POOL": "2", "MAGPIE_POOL_MEMORY": "1GiB"}
    assert real_rig.finish(real_rig.start("warm-guest", str(real_rig.tokens))) == 0

    both = [real_rig.start("submit", "10", "guest", str(real_rig.tokens)) for _ in range(2)]

    assert [real_rig.finish(child) for child in both] == [0, 0]
    assert real_rig.recover() == 0
    real_rig.check()
    assert len(real_rig.accepted) == 21
    warm = [job["start"] for job in real_rig.jobs().values() if job["attempt"] == 1]
    assert len(warm) >= 15
    assert set(warm) <= {"fork", "pool"}
