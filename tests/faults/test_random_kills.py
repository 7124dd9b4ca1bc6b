"""SIGKILL at random instants, several in a row, also while the restarted process recovers (F2)."""

from __future__ import annotations

import random
import time

import pytest

KILLS = 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.timeout(120)
def test_jobs_survive_kills_at_random_instants(rig, seed):
    moments = random.Random(seed)
    children = [("submit", "2", "plain", str(rig.tokens / "first"))]
    (rig.tokens / "first").mkdir()
    for number in range(KILLS):
        # Four in ten kills hit the restarted process's first 200 ms, where it recovers.
        wait = moments.uniform(0.0, 0.2) if moments.random() < 0.4 else moments.uniform(0.05, 1.2)
        before = len(rig.points())
        child = rig.start(*children[number % len(children)])
        # How long it takes to come so far is the machine's business.
        give_up = time.monotonic() + 20
        while len(rig.points()) == before:
            assert time.monotonic() < give_up, "it never led"
            time.sleep(0.005)
        time.sleep(wait)
        child.kill()
        rig.finish(child)
        tokens = rig.tokens / str(number)
        tokens.mkdir()
        children.append(("submit", "2", "plain", str(tokens)))

    assert rig.recover() == 0

    rig.check()
    passed = rig.points()
    assert passed.count("J1.after") >= KILLS // 2, "the kills came before there was any work"
