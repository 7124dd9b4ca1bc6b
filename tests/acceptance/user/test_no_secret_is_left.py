"""No secret is left anywhere, whatever becomes of its job (F97), with local processes in the place of VMs.

What a script writes to its own disk, or sends away, is its own doing: none here does. The process of a script knows its
secrets, so it is looked at only after its end; with a real VM it is none of this machine's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Magpie

    Hunt = Callable[..., set[Any]]


def running(client: Magpie, script: str, canary: str, **options: Any) -> str:
    """Return the id of a job whose script has printed `ready`."""
    job = client.jobs.create("job", script, memory_mb=64, secret_env={"TOKEN": canary}, **options)
    give_up = time.monotonic() + 30
    while "ready" not in client.jobs.get_logs(job.id):
        assert time.monotonic() < give_up, client.jobs.get(job.id)
        time.sleep(0.02)
    return job.id


def test_a_variable_that_is_no_secret_is_found(
    home, hunt: Hunt, scripts, canary: str, written: dict[str, bytes]
) -> None:
    """The proof that the search looks where jobs leave things; PYTHONIOENCODING is for the script's own print."""
    with home.client() as client:
        client.jobs.run_and_wait("job", scripts.TELL, memory_mb=64, env={"TOKEN": canary, "PYTHONIOENCODING": "utf-8"})

        found = hunt()

    assert {hit.form for hit in found} >= set(written)
    assert {"magpie.db table inputs", "logs", "stream"} <= {hit.place for hit in found}


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$"])
def test_a_job_that_tells_its_secret_in_every_encoding_leaves_none(
    home, hunt: Hunt, search, scripts, canary: str, end: str
) -> None:
    with home.client() as client:
        job = client.jobs.run_and_wait(
            "job", scripts.PROVE + scripts.TELL + end, memory_mb=64, secret_env={"TOKEN": canary}
        )
        told = client.jobs.get_logs(job.id)

        assert hunt() == set()
        assert told.startswith(scripts.proof(canary))
        assert told.count("***") == scripts.MASKS, told
        assert search.looked["stream"] == 2
        assert search.looked["table"] > 5

        client.jobs.delete(job.id)
        assert hunt() == set()
        assert client.jobs.list() == []


@pytest.mark.parametrize("end", ["stop", "timeout", "delete"])
def test_a_job_that_is_ended_in_the_middle_of_its_secret_leaves_none(
    home, hunt: Hunt, scripts, canary: str, end: str
) -> None:
    script = scripts.TELL + 'echo ready; printf %s "${TOKEN:0:-1}"; sleep 60'
    with home.client() as client:
        job_id = running(client, script, canary, timeout=4 if end == "timeout" else None)
        match end:
            case "stop":
                client.jobs.stop(job_id)
            case "timeout":
                assert client.jobs.wait(job_id, timeout=30).exit_code == 124
            case "delete":
                client.jobs.delete(job_id, force=True)

        assert hunt() == set()


def test_a_job_that_waits_is_stopped_or_deleted_and_has_left_none(home, hunt: Hunt, scripts, canary: str) -> None:
    with home.client(MAGPIE_CPUS="1") as client:
        before = client.jobs.create("before", "sleep 60", memory_mb=64)
        stopped, deleted = (
            client.jobs.create("job", scripts.TELL, memory_mb=64, secret_env={"TOKEN": canary}) for _ in range(2)
        )
        assert hunt() == set()
        client.jobs.stop(stopped.id)
        client.jobs.delete(deleted.id, force=True)

        assert hunt() == set()
        assert client.jobs.get_status(stopped.id) == "stopped"
        assert client.jobs.get_logs(stopped.id) == ""
        client.jobs.delete(before.id, force=True)


#: Creates a job with the secret that it is told on stdin, and waits for it: its engine is killed meanwhile.
CREATE = """
import sys
from magpie_local import Magpie
with Magpie() as client:
    job = client.jobs.create("job", sys.argv[1], memory_mb=64, secret_env={"TOKEN": sys.stdin.read()})
    client.jobs.wait(job.id)
"""


def killed(home, script: str, canary: str, point: str) -> None:
    """Have a job created by a process that is killed at a point of its life."""
    environment = {**home.environment, "MAGPIE_KEEPER": "false", "MAGPIE_CRASH_AT": point}
    done = subprocess.run(
        [sys.executable, "-c", CREATE, script], env=environment, input=canary.encode(), timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["J1.after", "J2.after", "J8.after"])
def test_a_job_gets_its_secret_from_the_next_engine_and_leaves_none(
    home, hunt: Hunt, scripts, canary: str, point: str
) -> None:
    killed(home, scripts.PROVE + scripts.TELL, canary, point)
    assert hunt() == set()

    with home.client() as client:
        (job,) = client.jobs.list()
        assert client.jobs.wait(job.id, timeout=30).success
        told = client.jobs.get_logs(job.id)

        assert told.startswith(scripts.proof(canary))
        assert told.count("***") == scripts.MASKS
        assert hunt() == set()


@pytest.mark.parametrize("ruin", ["gone", "another", "damaged"])
def test_a_job_whose_key_is_lost_fails_and_says_what_to_do(
    home, hunt: Hunt, engine_log: pytest.LogCaptureFixture, scripts, canary: str, ruin: str
) -> None:
    killed(home, scripts.PROVE, canary, "J1.after")
    if ruin == "gone":
        home.key.unlink()
    else:
        home.key.write_bytes(os.urandom(32) if ruin == "another" else b"x")

    with home.client() as client:
        (job,) = client.jobs.list()
        job = client.jobs.wait(job.id, timeout=30)

        assert (job.status, job.reason, client.jobs.get_logs(job.id)) == ("failed", "start_failed", "")
        assert str(home.key) in str(job.message)
        assert "Create the job again" in str(job.message)
        assert not [record for record in engine_log.records if record.exc_info]
        assert hunt() == set()
    out, _ = home.type("status", job.id)
    assert "Create the job again" in out


def test_commands_in_a_vm_that_stays_get_secrets_and_leave_none(
    home, hunt: Hunt, scripts, canary: str, entered: None
) -> None:
    with home.client() as client:
        job = client.jobs.create("job", "true", memory_mb=64, persistent=True)
        client.jobs.wait(job.id, timeout=30)
        pieces: list[bytes] = []
        secret = {"TOKEN": canary}

        proven = client.jobs.exec(job.id, scripts.PROVE, secret_env=secret)
        told = client.jobs.exec(job.id, scripts.TELL, secret_env=secret, on_output=lambda _, data: pieces.append(data))
        client.jobs.exec(job.id, scripts.TELL + "exit 5", secret_env=secret)
        late = client.jobs.exec(job.id, scripts.TELL + "sleep 60", secret_env=secret, timeout=3)

        assert (proven.stdout, late.timed_out) == (scripts.proof(canary), True)
        assert (told.exit_code, told.stdout.count("***"), told.stderr) == (0, scripts.MASKS - 1, "***\n")
        assert sorted(b"".join(pieces)) == sorted(told.stdout_bytes + told.stderr_bytes)
        assert hunt() == set()
        client.jobs.stop(job.id)
        assert hunt() == set()


def test_while_a_command_runs_no_argument_of_any_process_tells_its_secret(
    home, search, canary: str, entered: None
) -> None:
    with home.client() as client:
        job = client.jobs.create("job", "true", memory_mb=64, persistent=True)
        client.jobs.wait(job.id, timeout=30)

        def look(_stream: str, _data: bytes) -> None:
            search.processes()

        client.jobs.exec(job.id, "echo ready; read line", secret_env={"TOKEN": canary}, on_output=look, timeout=30)

    assert search.looked["cmdline"] > 1
    # The command's own process is the one that may know it.
    assert not [hit for hit in search.hits if hit.place.startswith("cmdline")]
