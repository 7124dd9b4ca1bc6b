"""Persistent VMs of real QEMUs sleep, and whoever wants one has it as it was (D6)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from magpie_local import Job
    from magpie_local.api.models import PoolStatus

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(400),
    # Keepers that this process has started go on without it, as they are meant to.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: What goes on in the background; what it counts is in its memory only, until somebody asks.
BEATS = "(n=0; trap 'echo $n > /tmp/count' USR1; while true; do n=$((n+1)); sleep 0.1; done) & echo $! > /tmp/pid"
TALK = "while true; do echo >/dev/udp/169.254.77.2/9; sleep 0.01; done"
COUNT = "sudo kill -USR1 $(cat /tmp/pid); sleep 1; cat /tmp/count"


@pytest.fixture
def client(vm_home: Path, image_folder: Path) -> Iterator[Magpie]:
    settings = config.load(home=vm_home, images=image_folder, templates="4 GiB", pool=0)
    with Magpie(settings=settings) as client:
        yield client
        for job in client.jobs.list():
            client.jobs.delete(job.id, force=True)


def staying(client: Magpie, **options: Any) -> Job:
    job = client.jobs.create(
        "vm", f"{BEATS}; echo note > /workspace/note || true", memory_mb=256, persistent=True, **options
    )
    ended = client.jobs.wait(job.id, timeout=120)
    assert ended.exit_code == 0, client.jobs.story(job.id)
    return ended


def from_the_pool(client: Magpie) -> Job:
    """Return a job whose VM was waiting.

    What is told of the pool may be half a second old, and it gives its forks up where the machine lacks memory.
    """
    for _ in range(3):
        until(lambda: is_settled(client.monitoring.pool()))
        job = staying(client)
        if job.start == "pool":
            return job
        client.jobs.delete(job.id, force=True)
    raise AssertionError(f"three jobs in turn found no fork waiting, the last was a {job.start} start")


def is_settled(pool: PoolStatus) -> bool:
    return bool(pool.waiting) and not pool.coming and not pool.making


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=180, check=False)


def until(holds: Callable[[], object], within: float = 60.0, why: Callable[[], object] = lambda: "") -> None:
    give_up = time.monotonic() + within
    while not holds():
        assert time.monotonic() < give_up, why()
        time.sleep(0.1)


def told(home: Path, job_id: str) -> str:
    """Return what is known of a VM that does not do what it should: its story, and what the keeper has said."""
    with Magpie(settings=config.load(home=home, keeper=False), lead=False) as client:
        story = "\n".join(map(str, client.jobs.story(job_id)))
    log = home / "keeper.log"
    return f"{story}\n{log.read_text() if log.exists() else ''}\n{of_home(home)}"


def of_home(home: Path) -> list[tuple[psutil.Process, str]]:
    """Return all processes that have to do with a state directory, but for this one, with their command lines."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            named = str(home) in command or process.environ().get("MAGPIE_HOME") == str(home)
        except psutil.Error:
            continue
        if named and process.pid != os.getpid():
            found.append((process, command))
    return found


def keepers(home: Path) -> list[psutil.Process]:
    return [one for one, command in of_home(home) if "-m magpie_local.keeper" in command and "doorbell" not in command]


def doorbells(home: Path) -> list[psutil.Process]:
    return [one for one, command in of_home(home) if "doorbell" in command]


@pytest.mark.parametrize("start", ["fork", "cold"])
def test_ssh_wakes_a_vm_that_goes_on_where_it_was(
    client: Magpie, qemus: Callable[[Path], list[int]], start: str
) -> None:
    if start == "fork":
        client.templates.warm("base", 1, 256)
    job = staying(client, stateful=True, isolation="shared" if start == "fork" else "private")
    assert job.start == start
    command = client.jobs.ssh(job.id).command
    before = int(shell(f"{command} {COUNT!r}").stdout)
    assert client.jobs.sleep(job.id).vm_state == "asleep"
    until(lambda: qemus(client.settings.home) == [])
    (file,) = client.settings.home.glob("jobs/*/1/asleep")
    assert file.stat().st_mode & 0o777 == 0o600
    assert client.jobs.get_status(job.id) == "running"
    assert client.workspaces.get(str(job.workspace_id)).in_use_by == job.id
    time.sleep(3)  # in which the guest's clock falls behind, and what it counts does not go on

    woken = shell(f"{command} {f'date +%s; cat /workspace/note; {COUNT}'!r}")
    assert woken.returncode == 0, woken.stderr
    now, note, count = woken.stdout.split()
    assert abs(int(now) - time.time()) < 30
    assert (note, before < int(count) < before + 400) == ("note", True)
    job = client.jobs.get(job.id)
    assert job.vm_state == "ready"
    # Again, and by another way in: what came back is a VM like any other.
    client.jobs.sleep(job.id)
    assert int(client.jobs.exec(job.id, ["sh", "-c", COUNT]).stdout) > int(count)
    client.jobs.sleep(job.id)
    assert client.jobs.exec(job.id, "cat /workspace/note").stdout == "note\n"
    client.jobs.sleep(job.id)
    client.jobs.stop(job.id)
    assert client.workspaces.get(str(job.workspace_id)).is_clean
    assert doorbells(client.settings.home) == []


def test_a_vm_from_the_pool_wakes_though_its_template_and_image_have_gone(
    vm_home: Path, image_folder: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(image_folder, images, symlinks=True)
    settings = config.load(home=vm_home, images=images, templates="4 GiB", pool=1, pool_shapes="base:1:256")
    with Magpie(settings=settings) as client:
        client.templates.warm("base", 1, 256)
        job = from_the_pool(client)
        for _ in range(2):
            client.jobs.sleep(job.id)
            for template in client.templates.list():
                client.templates.remove(template.key)
            shutil.rmtree(images)
            assert (
                client.jobs.exec(
                    job.id, "python3 -c 'print(6 * 7)'; sync; sudo dmesg | grep -ci 'i/o error' || true"
                ).stdout
                == "42\n0\n"
            )
        client.jobs.delete(job.id, force=True)


def test_an_idle_vm_gives_its_memory_back_and_wakes_though_nobody_of_us_is_alive(
    vm_home: Path, image_folder: Path, qemus: Callable[[Path], list[int]],
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    settings = config.load(home=vm_home, images=image_folder, templates=0, pool=0)
    with Magpie(settings=settings) as client:
        job = staying(client, stateful=True, idle_pause="3s")
        command = client.jobs.ssh(job.id).command
        (qemu,) = qemus(vm_home)
        awake = psutil.Process(qemu).memory_full_info().pss
    # A keeper stays until it sleeps.
    until(lambda: qemus(vm_home) == [], why=lambda: told(vm_home, job.id))
    until(lambda: not keepers(vm_home), why=lambda: told(vm_home, job.id))
    left = of_home(vm_home)
    asleep = sum(one.memory_full_info().pss for one, _ in left)
    record_property("memory", f"awake {awake >> 20} MiB, asleep {asleep >> 20} MiB in {len(left)} processes")
    assert asleep < 24 << 20 < awake

    began = time.monotonic()
    woken = shell(f"{command} {f'cat /workspace/note; {COUNT}'!r}")
    record_property("wake", f"ssh took {time.monotonic() - began:.2f} s, of which 1 s is its own")
    assert woken.stdout.split()[0] == "note"
    assert int(woken.stdout.split()[1]) > 10
    # The keeper that the doorbell has called stays; killed, whatever it was at, ssh still works.
    for one in keepers(vm_home):
        os.kill(one.pid, signal.SIGKILL)
    assert shell(f"{command} cat /workspace/note").stdout == "note\n"
    with Magpie(settings=settings) as client:
        until(lambda: client.jobs.get(job.id).vm_state == "asleep")
        assert client.jobs.exec(job.id, "cat /workspace/note").stdout == "note\n"
        client.jobs.delete(job.id, force=True)


def test_a_card_that_sent_while_nobody_listened_is_not_silent_for_ever(client: Magpie) -> None:
    """A VM that was to sleep sent something in the wrong moment, and was lost to ssh: once in three times."""
    job = client.jobs.create("vm", f"({TALK}) </dev/null >/dev/null 2>&1 &", memory_mb=256, persistent=True)
    port = client.jobs.ssh(job.id, timeout=120).port
    client.jobs.wait(job.id, timeout=60)
    runtime = client.jobs._runtime

    async def listens_again() -> int:
        ports = runtime._engine.ports
        ((_, attempt),) = await ports.leader.unsettled()
        await ports.sleepers.hide(attempt.vm_id)
        await asyncio.sleep(1)
        return await ports.vms.expose(attempt.vm_id, port)

    assert runtime.call(listens_again()) == port
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        assert connection.recv(4) == b"SSH-"


def test_by_the_command_line_alone_each_command_a_process_of_its_own_a_vm_that_talks_wakes(
    vm_home: Path, image_folder: Path
) -> None:
    def magpie(*arguments: str) -> str:
        environment = os.environ | {"MAGPIE_HOME": str(vm_home), "MAGPIE_IMAGES": str(image_folder)}
        done = subprocess.run(
            [sys.executable, "-m", "magpie_local.cli", *arguments],
            env=environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    job_id = magpie("run", "--detach", "--persistent", "--memory", "256MB", "--", "true").split()[-1]
    try:
        magpie("wait", job_id)
        magpie("exec", job_id, "--", "bash", "-c", f"({TALK}) </dev/null >/dev/null 2>&1 & echo $! >/tmp/pid")
        for _ in range(3):
            magpie("sleep", job_id)
            assert magpie("exec", job_id, "--", "sh", "-c", "kill -0 $(cat /tmp/pid) && echo talks") == "talks\n"
    finally:
        magpie("rm", "--force", job_id)
    assert doorbells(vm_home) == []
