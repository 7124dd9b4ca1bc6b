"""The command with real VMs: what local processes can't show."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

#: Booting in emulation on a busy machine, seconds.
PATIENCE = 200


@pytest.fixture
def environment(image_folder: Path) -> Iterator[dict[str, str]]:
    """Give a user with a state directory of their own, and take down what is left of their VMs."""
    home = tempfile.mkdtemp(prefix="mgp")  # short, so that its sockets lie in it
    source = str(Path(__file__).resolve().parents[2])
    yield {**os.environ, "MAGPIE_HOME": home, "MAGPIE_IMAGES": str(image_folder), "PYTHONPATH": source}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if home.encode() in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue
    shutil.rmtree(home, ignore_errors=True)


def command(environment: dict[str, str], module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_command_runs_in_a_machine_of_its_own(environment: dict[str, str]) -> None:
    script = "cat /proc/sys/kernel/random/boot_id; id -un; echo trouble >&2; exit 3"

    done = command(environment, "magpie_local.cli", "run", "-q", "--", "bash", "-c", script)

    assert (done.returncode, done.stderr) == (3, "trouble\n")
    boot_id, user = done.stdout.splitlines()
    assert boot_id != Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert user == "root"


def test_a_detached_job_ends_with_its_submitter_gone(environment: dict[str, str]) -> None:
    job_id = command(
        environment, "magpie_local.cli", "run", "--detach", "--", "bash", "-c", "sleep 1; uname -s; exit 5"
    ).stdout.strip()

    waited = command(environment, "magpie_local.cli", "wait", job_id)

    assert waited.returncode == 5, waited.stderr
    assert command(environment, "magpie_local.cli", "logs", job_id).stdout == "Linux\n"


def test_the_demonstration_runs_and_tells_where_its_time_went(environment: dict[str, str]) -> None:
    done = command(environment, "magpie_local.cli.demo")

    assert done.returncode == 0, done.stderr
    facts = dict(line.split("  ", 1) for line in done.stdout.partition("\n\n")[2].splitlines())
    assert facts["status"].strip() == "completed"
    assert facts["accelerator"].strip() in ("kvm", "tcg")
    assert facts["script runs"].endswith(" s")


@pytest.mark.timeout(600)
def test_forks_are_clean_and_templates_come_and_go(environment: dict[str, str]) -> None:
    warm = {**environment, "MAGPIE_TEMPLATES": "4GiB"}

    made = command(warm, "magpie_local.cli", "images", "warm", "base", "--json")
    assert made.returncode == 0, made.stderr
    template = json.loads(made.stdout)
    proof = command(warm, "magpie_local.cli", "doctor", "--verify-forks", "3", "--json")
    assert proof.returncode == 0, proof.stdout + proof.stderr
    (listed,) = json.loads(command(warm, "magpie_local.cli", "templates", "list", "--json").stdout)
    private = command(warm, "magpie_local.cli", "run", "--isolation", "private", "--", "uname", "-s")
    removed = command(warm, "magpie_local.cli", "templates", "rm", template["key"])

    told = json.loads(proof.stdout)["forks"]
    assert (told["ok"], told["n"], told["template"]) == (True, 3, template["key"])
    assert listed["key"] == template["key"]
    assert private.stdout == "Linux\n"
    assert "booted" in private.stderr.splitlines()[-1]
    assert removed.stdout == f"{template['key']}\n"
