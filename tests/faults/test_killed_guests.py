"""SIGKILL of QEMU while its guest writes and syncs: nothing that was acknowledged is lost (F75, F77)."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

ROUNDS = 20
#: Seconds from the first acknowledged file of a round to the kill.
MOMENTS = (0.0, 1.5)
#: What `qemu-img check` exits with: all is well, or clusters are taken that nothing needs.
CLEAN, LEAKS = 0, 3
#: Tells what is there, and then goes on: small files, each synced with its folder before its line appears, and one
#: that is appended to; beside a large one, that keeps qcow2's and ext4's tables changing. One process: starting more
#: is slow.
WRITER = """\
exec python3 -u - <<'END'
import os, threading

def put(name, data):
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, data)
    os.fsync(file)
    os.close(file)

def churn():
    while True:
        for step in range(40):
            put("large", os.urandom(150_000))
        os.unlink("large")

number = os.environ["ROUND"]
for name in os.listdir():
    if name.startswith("f-"):
        print(name, open(name).read(), end="")
print(open("appended").read() if os.path.exists("appended") else "", end="")
print("since round", number)
threading.Thread(target=churn, daemon=True).start()
folder = os.open(".", os.O_RDONLY)
for at in range(100_000):
    put(f"f-{number}-{at}", f"{os.urandom(8).hex()}\\n".encode())
    os.fsync(folder)
    print(f"f-{number}-{at}", open(f"f-{number}-{at}").read(), end="")
    put("appended", f"line {number} {at}\\n".encode())
    print("line", number, at)
END
"""


@pytest.fixture
def client(real_rig) -> Iterator[Magpie]:
    with Magpie(settings=config.load(real_rig.env, templates="4 GiB")) as client:
        client.templates.warm("base", 1, 256)
        yield client


@pytest.mark.vm
@pytest.mark.timeout(600)
def test_no_synced_file_is_lost_in_twenty_kills(client: Magpie, real_rig) -> None:
    seed = int(os.environ.get("MAGPIE_TEST_SEED") or random.randrange(2**32))
    sys.stdout.write(f"MAGPIE_TEST_SEED={seed}\n")  # shown where the test fails
    moments, checks = random.Random(seed), []
    acknowledged: set[str] = set()
    for number in range(ROUNDS):
        found, made = killed_round(client, real_rig.qemus, number, moments.uniform(*MOMENTS))
        assert acknowledged <= found, f"round {number} lacks {sorted(acknowledged - found)}"
        acknowledged |= made
        checks.append(check(client))
        assert checks[-1] in (CLEAN, LEAKS), f"qemu-img check after round {number} exits with {checks[-1]}"
    last = client.jobs.run_and_wait("last", "cat f-* > all; wc -l < appended", **options())
    assert last.success, client.jobs.get_logs(last.id)
    assert int(client.jobs.get_logs(last.id)) >= sum(line.startswith("line ") for line in acknowledged)
    assert len(acknowledged) >= 10 * ROUNDS, "the kills came before there was much to lose"
    sys.stdout.write(f"{len(acknowledged)} lines acknowledged, {checks.count(LEAKS)} kills leaked clusters\n")


def killed_round(
    client: Magpie, qemus: Callable[[], list[int]], number: int, moment: float
) -> tuple[set[str], set[str]]:
    """Have a guest write, and kill it; return what it has found, and what it has acknowledged."""
    job = client.jobs.create("writer", WRITER, env={"ROUND": str(number)}, **options())
    wait_for_a_file(client, job)
    time.sleep(moment)
    (pid,) = qemus()
    os.kill(pid, signal.SIGKILL)
    ended = client.jobs.wait(job.id, timeout=60)
    assert (ended.script_state, ended.start) == ("lost", "fork")
    # Without what follows the last line's end: that line was not acknowledged.
    before, _, after = client.jobs.get_logs(job.id).rpartition("\n")[0].partition(f"since round {number}")
    return set(before.splitlines()), set(filter(None, after.splitlines()))


def wait_for_a_file(client: Magpie, job: Job) -> None:
    give_up = time.monotonic() + 60
    while f"f-{job.env['ROUND']}-0 " not in (said := client.jobs.get_logs(job.id)):
        assert time.monotonic() < give_up, (client.jobs.get(job.id), said[-500:])
        time.sleep(0.05)


def options() -> dict[str, Any]:
    return {"memory_mb": 256, "stateful": True, "workspace_id": "killed", "workspace_size_gb": 2}


def check(client: Magpie) -> int:
    """Return what `qemu-img check` makes of the workspace's disk, before anybody repairs it."""
    with closing(sqlite3.connect(client.settings.home / "magpie.db")) as db:
        ((head,),) = db.execute("SELECT head FROM workspaces WHERE id = 'killed'")
    disk = client.settings.home / "workspaces" / f"{head}.qcow2"
    return subprocess.run(["qemu-img", "check", "-f", "qcow2", disk], capture_output=True, check=False).returncode
