"""Killed at each point at which a VM falls asleep or wakes: it is awake or asleep afterwards, never both or neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config
from magpie_local.engine.faults import SLEEP_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job
    from tests.faults.rig import Rig

pytestmark = pytest.mark.timeout(120)

CHILD = """
import sys
from magpie_local import Magpie
with Magpie() as client:
    job = client.jobs.create("vm", "echo begin; echo the last line", memory_mb=256, persistent=True)
    print("accepted", job.id, flush=True)
    client.jobs.wait(job.id, timeout=60)
    client.jobs.sleep(job.id)
    client.jobs.wake(job.id)
    client.jobs.stop(job.id)
"""


def run(rig: Rig, crash_at: str = "") -> int:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], env={**rig.env, "MAGPIE_CRASH_AT": crash_at}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    return rig.finish(child, 60)


def until(client: Magpie, job_id: str, holds: Callable[[Job], bool]) -> Job:
    give_up = time.monotonic() + 30
    while not holds(job := client.jobs.get(job_id)):
        assert time.monotonic() < give_up, client.jobs.story(job_id)
        time.sleep(0.05)
    return job


@pytest.mark.parametrize("point", SLEEP_POINTS)
def test_killed_at_each_point_the_vm_is_awake_or_asleep(rig, point):
    assert run(rig, point) == -signal.SIGKILL
    (job_id,) = rig.accepted
    file = rig.home / "jobs" / job_id / "1" / "asleep"
    with Magpie(settings=config.load({**os.environ, **rig.env})) as client:
        # What was asked for before the kill is still done, and nothing is asked for in addition.
        wakes = point > "S3.after"
        job = until(client, job_id, lambda job: job.vm_state == ("ready" if wakes else "asleep"))
        until(client, job_id, lambda _: bool(agents(rig)) == wakes and file.exists() != wakes)
        assert client.jobs.wake(job_id).vm_state == "ready"
        until(client, job_id, lambda _: len(agents(rig)) == 1 and not file.exists())
        assert client.jobs.sleep(job_id).vm_state == "asleep"
        until(client, job_id, lambda _: not agents(rig))
        client.jobs.stop(job.id)
    rig.check()


def agents(rig: Rig) -> list[str]:
    return [text for text in rig.processes() if "guest.agent" in text]


def test_the_points_are_passed_in_order_and_nothing_is_left(rig):
    assert run(rig) == 0
    assert [point for point in rig.points() if point in SLEEP_POINTS] == list(SLEEP_POINTS)
    rig.check()
