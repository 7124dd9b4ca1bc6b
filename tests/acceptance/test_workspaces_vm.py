"""Workspaces on real VMs: the examples of seed 002, and what its notes promise (E1 to E8 of the feature table)."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parent / "seed_002"
SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"


@pytest.fixture(scope="module")
def client(shared_vm_home: Path, image_folder: Path) -> Iterator[Magpie]:
    """Jobs here start as forks: what is shown of those holds for VMs that boot as well, and the examples boot."""
    settings = config.load(home=shared_vm_home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        client.templates.warm("base", 1, 256)
        yield client


def run(client: Magpie, script: str, workspace: str | None = None, **options: Any) -> Job:
    stateful: dict[str, Any] = {"stateful": True, "workspace_id": workspace} if workspace else {}
    job = client.jobs.run_and_wait("job", script, memory_mb=256, **stateful, **options)
    assert job.success, (job, job.message, client.jobs.get_logs(job.id))
    return job


def said(client: Magpie, script: str, workspace: str | None = None, **options: Any) -> str:
    return client.jobs.get_logs(run(client, script, workspace, **options).id)


@pytest.mark.parametrize("name", ["option_1", "option_2", "counter"])
def test_an_example_is_the_seeds_but_for_its_import(name: str) -> None:
    seeds = list(SEEDS.glob("002_*.txt"))
    if not seeds:
        pytest.skip("the seeds are not beside this checkout")
    example = (EXAMPLES / f"{name}.py").read_text().split("\n\n", 2)[-1]
    assert "".join(example.split()) in "".join(seeds[0].read_text().split())


@pytest.mark.parametrize(
    ("name", "output"),
    [("option_1", "data\n"), ("option_2", "hello\n"), ("counter", "Counter is now: 5\n")],
)
def test_an_example_ends_as_the_seed_says(
    vm_home: Path, image_folder: Path, eventually: Callable[..., bool], name: str, output: str
) -> None:
    environment = {
        **os.environ, "MAGPIE_HOME": str(vm_home), "MAGPIE_IMAGES": str(image_folder), "MAGPIE_TEMPLATES": "4GiB",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }  # fmt: skip
    subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], env=environment, check=True, timeout=200)
    with Magpie(settings=config.load(home=vm_home, images=image_folder, keeper=False), lead=False) as client:
        newest = client.jobs.list()[0]
        assert (newest.status, client.jobs.get_logs(newest.id)) == ("completed", output)
        (workspace,) = client.workspaces.list()
        assert workspace.id == newest.workspace_id
        assert eventually(lambda: client.workspaces.get(workspace.id).is_clean)


def test_what_one_job_writes_the_next_one_reads_and_the_rest_is_gone(client: Magpie) -> None:
    first = run(client, "echo kept > kept; echo gone > /root/gone; pwd", "reread")
    assert client.jobs.get_logs(first.id) == "/workspace\n"
    assert said(client, "cat /workspace/kept; ls /root", "reread") == "kept\n"
    assert said(client, "ls /workspace", "another") == "lost+found\n"
    assert said(client, "ls /workspace") == ""


def test_jobs_on_one_workspace_wait_for_one_another_and_others_do_not(client: Magpie) -> None:
    script = "cat /workspace/order 2>/dev/null; echo {} >> /workspace/order; sleep 1"
    options: dict[str, Any] = {"memory_mb": 256, "stateful": True, "workspace_id": "queue"}
    jobs = [client.jobs.create(f"{n}", script.format(n), **options) for n in range(3)]
    beside = client.jobs.create("beside", "echo beside", memory_mb=256)
    assert client.jobs.wait(beside.id).success
    assert not client.jobs.get(jobs[2].id).is_final
    assert jobs[0].id in (client.jobs.get(jobs[1].id).waiting or jobs[0].id)
    ended = [client.jobs.wait(job.id) for job in jobs]
    assert [client.jobs.get_logs(job.id) for job in ended] == ["", "0\n", "0\n1\n"]
    times = [(job.started_at, job.finished_at) for job in ended]
    assert times == sorted(times)
    assert all(before[1] <= after[0] for before, after in pairwise(times) if before[1] and after[0])


def test_a_grown_workspace_has_a_grown_file_system(client: Magpie) -> None:
    size = "df --output=size -BG /workspace | tail -1"
    assert said(client, size, "grown", workspace_size_gb=2).strip() == "2G"
    client.workspaces.resize("grown", 4)
    assert said(client, size, "grown").strip() == "4G"


def test_a_clone_and_a_base_begin_alike_and_part(client: Magpie) -> None:
    run(client, "echo one > file", "origin")
    client.workspaces.clone("origin", "clone")
    run(client, "echo two > file", "clone")
    overlay = {"base_workspace_id": "origin"}
    assert said(client, "cat file; echo three > file; cat file", "over", **overlay) == "one\nthree\n"
    assert said(client, "cat file", "origin") == "one\n"
    assert said(client, "cat file", "clone") == "two\n"


def test_a_rollback_brings_the_files_of_the_snapshot_back(client: Magpie) -> None:
    run(client, "echo before > file", "rolled")
    client.workspaces.snapshot("rolled", "good")
    run(client, "echo after > file; echo more > more", "rolled")
    client.workspaces.rollback("rolled", "good")
    assert said(client, "cat file; test ! -e more && echo alone", "rolled") == "before\nalone\n"
