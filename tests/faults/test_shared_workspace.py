"""Two processes, each with an engine, whose jobs want one workspace at the same moment (F78, F81)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

ROUNDS, RACES = 25, 6
NAMES = ("a", "b")


@pytest.mark.timeout(180)
def test_jobs_of_two_processes_take_turns(stateful_rig, watch):
    share(stateful_rig, ROUNDS)

    check_turns(stateful_rig, ROUNDS)
    assert watch.seen > ROUNDS


@pytest.mark.timeout(180)
def test_the_workspace_outlives_a_race_for_the_leadership(stateful_rig, watch):
    """Fresh processes in each round; in every other one the one that leads is killed while its jobs go on."""
    for number in range(RACES):
        children = begin(stateful_rig)
        for child in children:
            send(child)
        for child in children:
            assert said(child)[0] == "accepted"
        if number % 2:
            children[0].kill()
        for child in children:
            stateful_rig.finish(child)
    assert stateful_rig.recover() == 0

    check_turns(stateful_rig, RACES)
    assert watch.seen > RACES


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_real_jobs_of_two_processes_take_turns(real_rig, real_watch):
    real_rig.program = Path(__file__).with_name("stateful_child.py")
    share(real_rig, 1)

    check_turns(real_rig, 1)
    assert real_watch.seen > 0


def begin(rig) -> list[subprocess.Popen[str]]:
    """Start one process for each name; return them when they are ready to accept a job."""
    children = [rig.start("share", name, "w") for name in NAMES]
    for child in children:
        assert said(child) == ["ready"]
    return children


def share(rig, rounds: int) -> None:
    """Have the processes accept one job each at the same moment, time and again."""
    children = begin(rig)
    for _ in range(rounds):
        for child in children:
            send(child)
        for child in children:
            assert said(child)[0] == "accepted"
        for child in children:
            assert said(child) == ["ended", "succeeded"]
    assert [rig.finish(child) for child in children] == [0, 0]


def send(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("now\n")
    child.stdin.flush()


def said(child: subprocess.Popen[str]) -> list[str]:
    assert child.stdout is not None
    return child.stdout.readline().split()


def check_turns(rig, rounds: int) -> None:
    """Assert that every job has had the workspace, one after the other, and that all used one and the same."""
    rig.check()
    jobs = rig.jobs().values()
    assert [job["script_state"] for job in jobs] == ["succeeded"] * len(NAMES) * rounds
    spans = sorted((job["started_at"], job["finished_at"]) for job in jobs)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    with closing(sqlite3.connect(rig.home / "magpie.db")) as db:
        (row,) = db.execute("SELECT id, is_clean, in_use_by FROM workspace_records").fetchall()
    assert row == ("w", 1, None)
    assert len(list((rig.home / "workspaces").glob("*.qcow2"))) == 1
