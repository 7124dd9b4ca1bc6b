"""The same on real VMs: nothing in their disks, in the memory files of templates, in QEMU's arguments, or on consoles.

What a script itself writes to the guest's disks would be found there, and is its own doing: these write nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Hunt = Callable[..., set[Any]]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]


def test_jobs_and_commands_of_real_vms_leave_none(
    vm_home, vm_hunt: Hunt, search, scripts, canary: str, tmp_path: Path
) -> None:
    secret = {"TOKEN": canary}
    with vm_home.client() as client:
        client.templates.warm("base", 1, 256)
        told = client.jobs.run_and_wait(
            "told",
            scripts.PROVE + scripts.TELL + "exit 3",
            memory_mb=256,
            secret_env=secret,
            stateful=True,
            workspace_id="w",
        )
        log = client.jobs.get_logs(told.id)
        assert (told.start, told.exit_code, log[:65]) == ("fork", 3, scripts.proof(canary))
        assert log.count("***") == scripts.MASKS, log

        kept = client.jobs.create("kept", scripts.PROVE, memory_mb=256, secret_env=secret, persistent=True)
        client.jobs.wait(kept.id, timeout=120)
        assert client.jobs.get_logs(kept.id) == scripts.proof(canary)
        result = client.jobs.exec(kept.id, scripts.TELL + "sync", secret_env=secret)
        assert (result.stdout.count("***"), result.stderr) == (scripts.MASKS - 1, "***\n")

        (tmp_path / "token").write_text(canary)
        out, _ = vm_home.type("exec", kept.id, "--secret", f"TOKEN@{tmp_path}/token", "--", "bash", "-c", scripts.PROVE)
        assert out == scripts.proof(canary)
        out, _ = vm_home.type(
            "run",
            "-q",
            "--memory",
            "256",
            "--secret",
            "TOKEN",
            "--",
            "bash",
            "-c",
            scripts.PROVE + scripts.TELL,
            TOKEN=canary,
        )
        assert out.startswith(scripts.proof(canary))
        (tmp_path / "token").unlink()

        # The VM that stays is there, with its disk and its QEMU.
        assert vm_hunt() == set()
        assert search.looked["disk"] >= 4  # scratch of the VM and of the template, blank, workspace
        assert search.looked["cmdline"] > 3
        client.jobs.delete(kept.id, force=True)
        client.jobs.delete(told.id)
        assert vm_hunt() == set()


def test_while_a_real_command_runs_no_process_of_this_machine_has_its_secret(
    vm_home, search, scripts, canary: str
) -> None:
    with vm_home.client() as client:
        kept = client.jobs.create("kept", "true", memory_mb=256, persistent=True, isolation="private")
        client.jobs.wait(kept.id, timeout=200)

        def look(_stream: str, _data: bytes) -> None:
            search.processes()

        result = client.jobs.exec(
            kept.id, f"echo now; {scripts.PROVE} echo; ps -eo args", secret_env={"TOKEN": canary}, on_output=look
        )
        assert result.success
        assert search.looked["cmdline"] > 3
        assert search.hits == set()
        # Nor does any argument list of the guest tell it; masked it would be ***.
        assert "***" not in result.stdout.partition("\n\n")[2]
        client.jobs.delete(kept.id, force=True)


def test_a_job_that_was_queued_when_its_engine_was_killed_gets_its_secret(
    vm_home, vm_hunt: Hunt, scripts, canary: str
) -> None:
    program = (
        "import sys; from magpie_local import Magpie\nwith Magpie() as client:\n"
        "    job = client.jobs.create('job', sys.argv[1], memory_mb=256, secret_env={'TOKEN': sys.stdin.read()})\n"
        "    client.jobs.wait(job.id)\n"
    )
    command = [sys.executable, "-c", program, scripts.PROVE + scripts.TELL]
    environment = {**vm_home.environment, "MAGPIE_KEEPER": "false", "MAGPIE_CRASH_AT": "J6.after"}
    done = subprocess.run(command, env=environment, input=canary.encode(), timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert vm_hunt() == set()

    out, _ = vm_home.type("ps", "--all", "--json")
    (job,) = json.loads(out)
    with vm_home.client() as client:
        ended = client.jobs.wait(job["id"], timeout=200)
        assert (ended.exit_code, client.jobs.get_logs(ended.id)[:65]) == (0, scripts.proof(canary))
        assert vm_hunt() == set()
