"""A host disk that fills up under a workspace: told at once, nothing lost, and it goes on when there is room (F73)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a file system"),
]

SMALL_MB, LARGE_MB, WRITTEN_MB = 40, 400, 60


@pytest.fixture
def home() -> Iterator[Path]:
    """A state directory whose workspaces lie on a small file system."""
    home = Path(tempfile.mkdtemp(prefix="mgpfull", dir=tempfile.gettempdir()))
    (home / "workspaces").mkdir(mode=0o700)
    options = f"size={SMALL_MB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "magpie-test", home / "workspaces"], check=True)
    try:
        yield home
    finally:
        subprocess.run(["umount", "--lazy", home / "workspaces"], check=True)
        shutil.rmtree(home)


def test_a_full_disk_pauses_the_vm_and_room_lets_it_go_on(home: Path, image_folder: Path) -> None:
    settings = config.load(home=home, images=image_folder, templates="0", pool=0, keeper=False)
    script = (
        f"head -c {WRITTEN_MB}M /dev/urandom > data; sync; sha256sum < data > sum; sync; echo written; "
        "sha256sum < data | cmp - sum && echo same"
    )
    with Magpie(settings=settings) as client:
        job = client.jobs.create("writer", script, memory_mb=256, stateful=True, workspace_id="w")
        try:
            paused = waited(client, job, lambda now: now.vm_state == "paused")
            assert paused.status == "running"
            assert "disk is full" in str(client.jobs.story(job.id)[-1])
            subprocess.run(["mount", "-o", f"remount,size={LARGE_MB}m", home / "workspaces"], check=True)
            ended = client.jobs.wait(job.id, timeout=60)
            assert [str(event.kind) for event in client.jobs.story(job.id)].count("vm_paused") == 1
            assert (ended.status, client.jobs.get_logs(job.id)) == ("completed", "written\nsame\n")
        finally:
            client.jobs.delete(job.id, force=True)
        client.workspaces.delete("w")


def waited(client: Magpie, job: Job, holds: Callable[[Job], bool]) -> Job:
    give_up = time.monotonic() + 120
    while not holds(now := client.jobs.get(job.id)):
        assert not now.is_final, (now, now.message)
        assert time.monotonic() < give_up
        time.sleep(0.1)
    return now
