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
