"""Warm starts on real VMs: they leave nothing behind, a fork may die while it waits, and the clock may jump."""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from magpie_local import Magpie, config
from magpie_local.domain.ids import VmId
from magpie_local.hypervisor import host
from magpie_local.hypervisor.processes import find_qemu
from magpie_local.ports.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

pytestmark = pytest.mark.vm

STARTS, AT_ONCE, POOL = 200, 20, 2
MIB = 1024 * 1024
DAY = 86400.0


class Footprint(NamedTuple):
    """What the engine and its libvirt host take of this machine."""

    open_files: int
    sockets: int
    folders: int
    memory_mb: float
    host_open_files: int
    #: QEMUs that libvirt started in it, those not reaped included.
    host_children: int
    host_memory_mb: float
    hypervisor_files: int


@pytest.fixture
def client(image_folder: Path) -> Iterator[Magpie]:
    home = Path(tempfile.mkdtemp(prefix="mgpw", dir=tempfile.gettempdir()))
    settings = config.load(home=home, images=image_folder, templates="4 GiB", pool=POOL, keeper=False)
    try:
        with Magpie(settings=settings) as made:
            made.templates.warm("base", 1, 256)
            yield made
    finally:
        shutil.rmtree(home)


@pytest.mark.timeout(600)
def test_two_hundred_starts_leave_nothing_behind(client: Magpie) -> None:
    _run(client, AT_ONCE)
    before = _footprint(client)
    for _ in range(STARTS // AT_ONCE):
        _run(client, AT_ONCE)
    after = _footprint(client)

    # A thing leaked by each start would be there 200 times. Memory: the engine grew by 0.5 MiB and its host by 3.4, and
    # hardly more in 200 starts more; 8 and 12 leave room for another malloc, and mean 40 and 60 KiB a start.
    assert after.folders == before.folders
    assert after.sockets == before.sockets
    assert after.open_files <= before.open_files + 2
    assert after.memory_mb <= before.memory_mb + 8
    assert after.host_children == before.host_children
    assert after.host_open_files <= before.host_open_files + 2
    assert after.host_memory_mb <= before.host_memory_mb + 12
    assert after.hypervisor_files == before.hypervisor_files


def test_a_fork_killed_while_it_waits_is_replaced_and_met_by_no_job(client: Magpie) -> None:
    _rest(client)
    # The one that waited longest would be handed out next.
    killed = min(_waiting(client), key=lambda vm_id: (client.settings.home / "warm" / vm_id).stat().st_ctime_ns)
    _kill(killed)
    _until(lambda: not _left(client, killed), lambda: f"left: {_left(client, killed)}")

    job = _ended(client, "echo hello")
    assert (job.success, job.attempt) == (True, 1), job
    assert job.start in ("fork", "pool")

    _rest(client)
    assert killed not in _waiting(client)
    assert (job := _ended(client, "echo hello")).attempt == 1
    assert job.start == "pool"


def test_forks_that_wait_while_the_clock_jumps_have_the_new_time(
    client: Magpie, monkeypatch: pytest.MonkeyPatch
) -> None:
    _rest(client)
    filled = set(_waiting(client))
    for ahead in (3 * DAY, -2 * DAY):
        monkeypatch.setattr(SystemClock, "now", lambda _clock, ahead=ahead: time.time() + ahead)
        assert filled & set(_waiting(client))
        began = time.time() + ahead
        job = _ended(client, "date +%s")
        ended = time.time() + ahead
        assert job.start == "pool"
        assert began - 2 <= int(client.jobs.get_logs(job.id)) <= ended + 2


def _run(client: Magpie, count: int) -> None:
    """Run a batch of jobs: the first of them are claimed from the pool, the others forked."""
    _rest(client)
    jobs = [client.jobs.create(name=f"job {n}", script=f"echo {n}", memory_mb=256) for n in range(count)]
    starts = set()
    for number, job in enumerate(jobs):
        done = client.jobs.wait(job.id, timeout=120)
        assert (done.success, done.attempt) == (True, 1), done
        assert client.jobs.get_logs(job.id) == f"{number}\n"
        client.jobs.delete(job.id)
        starts.add(done.start)
    assert starts == {"fork", "pool"}


def _ended(client: Magpie, script: str) -> Job:
    return client.jobs.wait(client.jobs.create(name="job", script=script, memory_mb=256).id, timeout=60)


def _rest(client: Magpie) -> None:
    """Return once the pool is full and all QEMUs of the state directory belong to it."""
    home = client.settings.home

    def is_at_rest() -> bool:
        pool, waiting = client.monitoring.pool(), _waiting(client)
        full = sum(pool.waiting.values()) == len(waiting) == POOL and not pool.coming
        return full and _qemus(home) == waiting

    _until(is_at_rest, lambda: f"{client.monitoring.pool()}, waiting {_waiting(client)}, running {_qemus(home)}")


def _footprint(client: Magpie) -> Footprint:
    _rest(client)
    layout = config.layout(client.settings)
    engine, libvirt = psutil.Process(), _libvirt_host()
    return Footprint(
        open_files=engine.num_fds(),
        sockets=len(list((layout.run / "c").iterdir())),
        folders=len(list(layout.jobs.iterdir())) + len(_waiting(client)),
        memory_mb=engine.memory_info().rss / MIB,
        host_open_files=libvirt.num_fds(),
        host_children=len(libvirt.children()),
        host_memory_mb=libvirt.memory_info().rss / MIB,
        hypervisor_files=sum(1 for _ in layout.hypervisor.rglob("*")),
    )


def _waiting(client: Magpie) -> list[str]:
    """Return the VMs that have no job, in order."""
    return sorted(folder.name for folder in (client.settings.home / "warm").glob("*"))


def _qemus(home: Path) -> list[str]:
    """Return the VM of each QEMU process that has files below `home`, in order."""
    lines = [process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])]
    ours = [line for line in lines if Path(line[0]).name.startswith("qemu-system-") and f"{home}/" in " ".join(line)]
    return sorted(line[line.index("-uuid") + 1] for line in ours)


def _libvirt_host() -> psutil.Process:
    # One that has ended and was not waited for yet has no command line.
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    (found,) = [child for child in children if host.__name__ in child.cmdline()]
    return found


def _left(client: Magpie, vm_id: str) -> list[Path]:
    """Return what is there of the files of a waiting fork: its folder and its control socket."""
    layout = config.layout(client.settings)
    places = layout.warming(VmId(vm_id)).folder, layout.control(VmId(vm_id))
    return [place for place in places if place.exists()]


def _kill(vm_id: str) -> None:
    """Kill a VM's QEMU; returns when it has exited."""
    pidfd = find_qemu([vm_id])[vm_id]
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
    finally:
        os.close(pidfd)


def _until(holds: Callable[[], bool], tell: Callable[[], object], within: float = 60.0) -> None:
    """Return as soon as something holds."""
    give_up = time.monotonic() + within
    while not holds():
        assert time.monotonic() < give_up, tell()
        time.sleep(0.05)
