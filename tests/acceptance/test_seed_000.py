"""The examples of seed 000, each as a process of its own, with nothing changed but the import.

Those of stateful jobs, persistent VMs and SSH are not here yet.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent / "seed_000").glob("*.py"))
SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: What every example begins with; some here are the later half of an example of the seed.
HEAD = 'frommagpieimportMagpieclient=Magpie(api_key="your_api_key_here")'


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_the_seeds_but_for_its_import(path):
    seeds = list(SEEDS.glob("000_*.txt"))
    if not seeds:
        pytest.skip("the seeds are not beside this checkout")
    seed, example = squeezed(seeds[0].read_text()), squeezed(path.read_text())

    original = example.replace("frommagpie_localimport", "frommagpieimport", 1)

    assert original != example
    assert original in seed or (original.startswith(HEAD) and original.removeprefix(HEAD) in seed)


@pytest.mark.parametrize("name", ["get", "get_logs"])
def test_a_job_that_does_not_exist_is_not_found(examples, name):
    ended = examples(name)

    assert ended.code == 1
    assert "JobNotFound: There is no job 'job_abc123xyz'" in ended.err


def test_a_job_is_created_and_goes_on_without_its_program(examples):
    ended = examples("create")

    said = re.fullmatch(f"Job ID: ({UUID})\nStatus: pending\n", ended.out)
    assert said
    job = examples.place.ended(said[1])
    assert (job.name, job.vcpus, job.memory_mb, job.status) == ("data-processor", 4, 2048, "failed")


def test_a_job_is_run_and_waited_for(examples):
    ended = examples("run_and_wait")

    assert ended.code == 0
    assert ended.out.startswith("Job finished with status: completed\nGenerating report...\n")
    assert "Report complete!\n" in ended.out  # stderr tells that there is no generate_report.py


def test_a_job_is_deleted(examples):
    ended = examples("delete")

    assert ended.code == 0
    assert re.fullmatch(
        f"Final output: Quick calculation\n\nJob deleted: job ({UUID}): deleted\nError: There is no job \\1.\n.*\n",
        ended.out,
    )


def test_the_logs_of_a_running_job_are_read(examples):
    ended = examples("get_logs_running")

    assert ended.out.startswith("Current output:\nProcessing item 1\n")
    assert "Processing item 9" not in ended.out
    with examples.place.client() as client:
        (job,) = [job for job in client.jobs.list() if job.name == "log-generator"]
        assert client.jobs.wait(job.id, timeout=40).status == "completed"
        assert client.jobs.get_logs(job.id).splitlines() == [f"Processing item {number}" for number in range(1, 11)]


@pytest.mark.timeout(120)
def test_the_status_of_a_job_is_polled_until_it_is_completed(examples):
    ended = examples("get_status")

    statuses = re.findall("Current status: (.*)\n", ended.out)
    assert ended.code == 0
    assert statuses[0] in ("pending", "running")
    assert set(statuses[1:-1]) == {"running"}
    assert statuses[-1] == "completed"
