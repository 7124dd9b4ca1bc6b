"""Persistent jobs on real VMs: they stay, are entered, outlive everybody, and go when they are told (D1 to D9)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import InvalidInput, Magpie, config
from magpie_local.errors import VmUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


def settings_of(home: Path, image_folder: Path) -> config.Settings:
    return config.load(home=home, images=image_folder, templates="4 GiB", pool=0, keeper=False)


@pytest.fixture(scope="module")
def client(shared_vm_home: Path, image_folder: Path) -> Iterator[Magpie]:
    with Magpie(settings=settings_of(shared_vm_home, image_folder)) as client:
        client.templates.warm("base", 1, 256)
        yield client


def staying(client: Magpie, script: str = "echo ready", **options: Any) -> Job:
    job = client.jobs.create("vm", script, memory_mb=256, persistent=True, **options)
    return client.jobs.wait(job.id, timeout=120)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120, check=False)


def test_a_vm_stays_after_its_script_until_it_is_stopped(client: Magpie, qemus: Callable[[Path], list[int]]) -> None:
    job = staying(client, "echo ready; (while true; do date >> /tmp/beats; sleep 0.2; done) &")
    assert (job.status, job.exit_code, job.vm_state, client.jobs.get_logs(job.id)) == ("running", 0, "ready", "ready\n")
    assert [one.id for one in client.jobs.list(status="running")] == [job.id]
    beats = "wc -l < /tmp/beats"
    before = int(client.jobs.exec(job.id, f"{beats}; sleep 1").stdout)
    assert int(client.jobs.exec(job.id, beats).stdout) > before

    assert client.jobs.stop(job.id).status == "stopped"
    assert client.jobs.get_status(job.id) == "stopped"
    assert qemus(client.settings.home) == []
    assert not any((client.settings.home / "doors").glob("*"))
    with pytest.raises(VmUnreachable):
        client.jobs.exec(job.id, "true")


def test_a_failed_setup_can_be_looked_at(client: Magpie) -> None:
    job = staying(client, "echo trouble > /tmp/why; exit 7")
    assert (job.status, job.exit_code, job.vm_state) == ("failed", 7, "ready")
    assert client.jobs.exec(job.id, ["cat", "/tmp/why"]).stdout == "trouble\n"
    client.jobs.delete(job.id, force=True)


def test_only_a_vm_that_stays_is_entered(client: Magpie) -> None:
    job = client.jobs.create("passing", "sleep 5", memory_mb=256)
    with pytest.raises(InvalidInput, match="persistent=True"):
        client.jobs.ssh(job.id)
    client.jobs.delete(job.id, force=True)


def test_a_vm_outlives_every_process_of_ours_and_is_adopted(
    vm_home: Path, image_folder: Path, qemus: Callable[[Path], list[int]]
) -> None:
    program = (
        "import sys, time\nfrom magpie_local import Magpie, config\n"
        f"client = Magpie(settings=config.load(home={str(vm_home)!r}, images={str(image_folder)!r}, keeper=False))\n"
        "options = {'memory_mb': 256, 'persistent': True, 'stateful': True, 'workspace_id': 'w'}\n"
        "job = client.jobs.create('vm', 'echo ready', **options)\n"
        "client.jobs.wait(job.id)\nprint(job.id, client.jobs.ssh(job.id).command, flush=True)\ntime.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    with owner:
        assert owner.stdout is not None
        job_id, command = owner.stdout.readline().strip().split(" ", 1)
        os.killpg(owner.pid, signal.SIGKILL)
    (vm,) = qemus(vm_home)
    assert shell(f"{command} sudo sh -c '\"echo alive > /workspace/note\"'").returncode == 0

    with Magpie(settings=settings_of(vm_home, image_folder)) as client:
        began = time.monotonic()
        assert client.jobs.get_status(job_id) == "running"
        assert client.jobs.exec(job_id, "cat /workspace/note").stdout == "alive\n"
        assert time.monotonic() - began < 30
        assert qemus(vm_home) == [vm]
        client.jobs.stop(job_id)
        assert client.workspaces.get("w").is_clean
        again = client.jobs.run_and_wait("next", "cat note", memory_mb=256, stateful=True, workspace_id="w")
        assert client.jobs.get_logs(again.id) == "alive\n"


def test_files_go_in_and_come_out(client: Magpie, tmp_path: Path) -> None:
    job = staying(client)
    files = client.jobs.files(job.id)
    files.write("plain.txt", "text", mode=0o600)
    assert files.read("plain.txt") == b"text"
    (tmp_path / "tree" / "empty").mkdir(parents=True)
    (tmp_path / "tree" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "tree" / "run.sh").chmod(0o755)
    files.upload(tmp_path / "tree", "tree")
    assert [(entry.name, entry.kind) for entry in files.list("tree")] == [("empty", "folder"), ("run.sh", "file")]
    files.download("tree", tmp_path / "back")
    assert (tmp_path / "back" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "back" / "empty").is_dir()
    client.jobs.stop(job.id)
