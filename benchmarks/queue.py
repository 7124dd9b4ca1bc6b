"""A long queue through the public API: `.venv/bin/python -m benchmarks.queue [--json FILE]`.

The fake hypervisor stands in for VMs (one runs and blocks the queue), so the figures are the store's, the engine's
and the
two threads' between caller and database. The reference is a plain sqlite3 commit of one row on the same disk in the
same run.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.report import Figure, number, report, times
from magpie_local import Magpie, config

_JOBS = 10_000


def measure(count: int = _JOBS) -> list[Figure]:
    """Submit `count` jobs one after another, and look at them."""
    folder = Path(tempfile.mkdtemp(prefix="magpie-bench-", dir="/var/tmp"))
    try:
        raw = raw_commits(folder / "raw.db")
        settings = config.load(home=folder / "state", hypervisor="fake", cpus=1, keeper=False)
        with Magpie(settings=settings) as client:
            return [times("reference: sqlite3 commit of one row", raw), *_queue(client, count)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def raw_commits(path: Path, count: int = 500) -> list[float]:
    """Return the seconds that a commit takes with the store's journal mode and nothing else."""
    taken = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=PERSIST")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t (a TEXT)")
        for _ in range(count):
            began = time.monotonic()
            db.execute("INSERT INTO t VALUES ('x')")
            taken.append(time.monotonic() - began)
    return taken


def _queue(client: Magpie, count: int) -> list[Figure]:
    blocker = client.jobs.create(name="blocker", script="sleep 3600")
    began = time.monotonic()
    submitted = [_timed(lambda: client.jobs.create(name="queued", script="true")) for _ in range(count)]
    rate = count / (time.monotonic() - began)
    pages = [_timed(lambda: client.jobs.list(limit=100)) for _ in range(100)]
    gets = [_timed(lambda: client.jobs.get(blocker.id)) for _ in range(500)]
    client.jobs.stop(blocker.id)
    return [
        times("jobs.create", submitted),
        number("jobs submitted one after another", rate, "1/s", goal=">= 500"),
        times("jobs.list of 100", pages),
        times("jobs.get", gets),
    ]


def _timed(work: object) -> float:
    assert callable(work)
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    report("a long queue", measure(), json_file=parser.parse_args().json)
