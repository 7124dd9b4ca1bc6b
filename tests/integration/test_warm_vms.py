"""Two hundred warm starts on real VMs leave nothing: no VM, file, socket, task, open file or memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from magpie_local import Magpie, config
from magpie_local.hypervisor.processes import find_qemu

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS, AT_ONCE, POOL = 200, 20, 2
MIB = 1024 * 1024


class Footprint(NamedTuple):
    """What the engine takes of this machine."""

    open_files: int
    sockets: int
    folders: int
    memory_mb: float


@pytest.fixture
def client(image_folder: Path) -> Iterator[Magpie]:
    home = Path(tempfile.mkdtemp(prefix="mgpw", dir=tempfile.gettempdir()))
    settings = config.load(home=home, images=image_folder, templates="4 GiB", pool=POOL, keeper=False)
    try:
        with Magpie(settings=settings) as made:
            yield made
    finally:
        shutil.rmtree(home)


@pytest.mark.vm
@pytest.mark.timeout(600)
def test_two_hundred_starts_leave_nothing_behind(client: Magpie) -> None:
    client.templates.warm("base", 1, 256)
    _run(client, AT_ONCE)
    before = _at_rest(client)
    for _ in range(STARTS // AT_ONCE):
        _run(client, AT_ONCE)
    after = _at_rest(client)

    assert after.folders == before.folders
    assert after.sockets == before.sockets
    assert after.open_files <= before.open_files + 4
    assert after.memory_mb <= before.memory_mb + 24


def _run(client: Magpie, count: int) -> None:
    jobs = [client.jobs.create(name=f"job {n}", script=f"echo {n}", memory_mb=256) for n in range(count)]
    for number, job in enumerate(jobs):
        done = client.jobs.wait(job.id, timeout=120)
        assert (done.success, done.attempt) == (True, 1), done
        assert done.start in ("fork", "pool")
        assert client.jobs.get_logs(job.id) == f"{number}\n"
        client.jobs.delete(job.id)


def _at_rest(client: Magpie) -> Footprint:
    """Return the footprint once the pool is full and nothing else goes on; what VMs there are belong to the pool."""
    home = client.settings.home
    give_up = time.monotonic() + 60
    while True:
        pool = client.monitoring.pool()
        waiting = [folder.name for folder in (home / "warm").glob("*")]
        if sum(pool.waiting.values()) == len(waiting) == POOL and not pool.coming:
            break
        assert time.monotonic() < give_up, (pool, waiting)
        time.sleep(0.05)
    running = find_qemu(waiting)
    for pidfd in running.values():
        os.close(pidfd)
    assert sorted(running) == sorted(waiting)
    return Footprint(
        open_files=len(os.listdir("/proc/self/fd")),
        sockets=len(list((config.layout(client.settings).run / "c").iterdir())),
        folders=len(list((home / "jobs").iterdir())) + len(waiting),
        memory_mb=psutil.Process().memory_info().rss / MIB,
    )
