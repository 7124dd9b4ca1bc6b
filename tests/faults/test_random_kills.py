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
        # Four in ten kills hit the restarted process's first 300 ms, where it recovers.
        wait = moments.uniform(0.15, 0.45) if moments.random() < 0.4 else moments.uniform(0.3, 1.5)
        child = rig.start(*children[number % len(children)])
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
