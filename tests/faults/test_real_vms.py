"""SIGKILL of a real engine process at random instants while a real VM boots, runs and ends (F1, F2)."""

from __future__ import annotations

import random
import time

import pytest

KILLS = 12
#: A kill's instant counts from the start of its process. Up to about a second it recovers and has libvirt start VMs;
#: a boot takes three to five.
EARLY, ANY = (0.3, 1.3), (0.3, 7.0)


@pytest.mark.vm
@pytest.mark.timeout(900)
def test_real_jobs_survive_random_kills(real_rig):
    moments = random.Random(20261121)
    found_work = 0
    for number in range(KILLS):
        tokens = real_rig.tokens / str(number)
        tokens.mkdir()
        child = real_rig.start("submit", "1", "guest", str(tokens))
        time.sleep(moments.uniform(*(EARLY if number % 2 else ANY)))
        before = len(real_rig.points())
        child.kill()
        real_rig.finish(child)
        found_work += before > 0

    assert real_rig.recover() == 0

    real_rig.check()
    assert found_work >= KILLS * 0.8, "the kills came before there was any work"
    states = [job["script_state"] for job in real_rig.jobs().values()]
    assert len(states) >= KILLS // 3
    assert set(states) == {"succeeded"}
