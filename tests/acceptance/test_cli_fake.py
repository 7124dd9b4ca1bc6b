"""The command as a user types it, with local processes in the place of VMs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "magpie_local.cli"]
#: Longest wait for anything here, seconds; a busy machine must not fail the test.
PATIENCE = 30


class Terminal:
    """A user with a state directory of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        source = str(Path(__file__).resolve().parents[2])
        config = {"MAGPIE_HOME": str(home), "MAGPIE_HYPERVISOR": "fake", "MAGPIE_CONFIG": "", "MAGPIE_STOP_GRACE": "2"}
        self.environment = {**os.environ, **config, "PYTHONPATH": source}

    def type(self, *arguments: str, text: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            input=b"" if text is None else text,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    @contextlib.contextmanager
    def typing(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command while the block runs."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def json(self, *arguments: str) -> object:
        """Run a command and return what it prints as JSON."""
        done = self.type(*arguments, "--json")
        assert done.stdout, done.stderr.decode()
        return json.loads(done.stdout)

    def only_job(self) -> dict[str, object]:
        """Return the one job that there is."""
        jobs = self.json("ps", "--all")
        assert isinstance(jobs, list)
        (job,) = jobs
        assert isinstance(job, dict)
        return job

    def processes(self) -> list[int]:
        """Return the processes of this state directory: keepers and fake VMs."""
        mark = f"MAGPIE_HOME={self.home}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                    found.append(int(folder.name))
        return found


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    home = Path(tempfile.mkdtemp(prefix="mgp"))  # short, so that its sockets lie in it
    terminal = Terminal(home)
    yield terminal
    for pid in terminal.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)


def read_until(process: subprocess.Popen[bytes], mark: bytes) -> bytes:
    assert process.stdout is not None
    seen = b""
    while mark not in seen:
        piece = process.stdout.readline()
        assert piece, f"ended after {seen!r}"
        seen += piece
    return seen


def test_output_and_exit_code_are_the_jobs_own(terminal: Terminal) -> None:
    done = terminal.type("run", "--quiet", "--", "bash", "-c", r"printf 'out\0\377\r\n'; echo err >&2; exit 7")

    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\0\377\r\n", b"err\n")


def test_narration_is_one_line_at_each_end_and_a_warning_about_emulation(terminal: Terminal) -> None:
    done = terminal.type("run", "--", "true")

    first, warning, last = done.stderr.decode().splitlines()
    assert first.startswith("job ")
    assert "no security boundary" in warning
    assert "completed · exit code 0" in last


def test_the_words_of_a_command_arrive_as_they_were_given(terminal: Terminal) -> None:
    words = ["a b", "$(id)", "`id`", "it's", '"', "\\", "ü", "*", "", "-n", "line\nbreak"]

    done = terminal.type("run", "-q", "--", "printf", "%s|", *words)

    assert done.stdout.decode() == "".join(f"{word}|" for word in words)


def test_a_script_comes_from_a_file_or_from_stdin(terminal: Terminal, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_bytes(b'echo "$GREETING from a file"')

    from_file = terminal.type("run", "-q", "-e", "GREETING=hello", str(script))
    from_stdin = terminal.type("run", "-q", "-", text=b"echo from stdin")

    assert (from_file.stdout, from_stdin.stdout) == (b"hello from a file\n", b"from stdin\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--timeout", "300ms", "--", "sleep", "60"], 124),
        (["--", "bash", "-c", "kill -KILL $$"], 137),
        (["--image", "no-such-image", "--", "true"], 3),
        (["--memory", "1MB", "--", "true"], 2),
        (["--vcpus", "10000", "--", "true"], 2),
        (["--name", "x" * 300, "--", "true"], 2),
        (["--name", "two\nlines", "--", "true"], 2),
        (["-e", "1KEY=x", "--", "true"], 2),
        (["/dev/null"], 2),
    ],
)
def test_each_kind_of_end_has_its_exit_code(terminal: Terminal, arguments: list[str], code: int) -> None:
    done = terminal.type("run", *arguments)

    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_what_is_refused_leaves_no_job(terminal: Terminal) -> None:
    terminal.type("run", "--vcpus", "0", "--", "true")

    assert terminal.json("ps", "--all") == []


def test_json_of_a_run_is_its_output_and_then_the_job(terminal: Terminal) -> None:
    done = terminal.type("run", "--json", "--", "bash", "-c", "echo one; exit 3")

    *output, job = [json.loads(line) for line in done.stdout.splitlines()]
    assert "".join(record["text"] for record in output) == "one\n"
    assert (job["status"], job["exit_code"], job["exit"]) == ("failed", 3, 3)


def test_a_detached_job_ends_with_its_submitter_gone(terminal: Terminal) -> None:
    done = terminal.type("run", "--detach", "--", "bash", "-c", "sleep 1; echo late; exit 5")
    job_id = done.stdout.decode().strip()

    waited = terminal.type("wait", job_id[:8])

    assert waited.returncode == 5
    assert terminal.type("logs", job_id).stdout == b"late\n"


def test_no_process_is_left_when_nothing_is_left_to_do(terminal: Terminal) -> None:
    job_id = terminal.type("run", "--detach", "--", "sleep", "0.5").stdout.decode().strip()
    terminal.type("wait", job_id)

    deadline = time.monotonic() + PATIENCE
    while terminal.processes() and time.monotonic() < deadline:
        time.sleep(0.1)

    assert terminal.processes() == []


def test_one_interrupt_stops_the_job_and_shows_its_output_to_the_end(terminal: Terminal, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("trap 'echo cleaned up; exit' TERM; echo ready; while :; do sleep 0.05; done")

    with terminal.typing("run", str(script)) as process:
        read_until(process, b"ready\n")
        process.send_signal(signal.SIGINT)
        rest, narration = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, narration.decode()
    assert rest == b"cleaned up\n"
    assert terminal.only_job()["status"] == "stopped"


def test_a_second_interrupt_leaves_the_job_running_and_says_how_to_see_it(terminal: Terminal, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("trap 'echo asked' TERM; echo ready; for i in {1..10}; do sleep 0.05; done; echo done")

    with terminal.typing("run", str(script)) as process:
        read_until(process, b"ready\n")
        process.send_signal(signal.SIGINT)
        read_until(process, b"asked\n")
        process.send_signal(signal.SIGINT)
        _, narration = process.communicate(timeout=PATIENCE)

    job_id = str(terminal.only_job()["id"])
    assert process.returncode == 130, narration.decode()
    assert f"job {job_id} still runs" in narration.decode()
    assert terminal.type("wait", job_id).returncode == 130
    assert terminal.type("logs", job_id).stdout == b"ready\nasked\ndone\n"


def test_a_closed_terminal_loses_nothing(terminal: Terminal) -> None:
    with terminal.typing("run", "--", "bash", "-c", "echo ready; sleep 1; echo done") as process:
        read_until(process, b"ready\n")
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=PATIENCE)

    job_id = str(terminal.only_job()["id"])
    assert process.returncode == 129
    assert terminal.type("wait", job_id).returncode == 0
    assert terminal.type("logs", job_id).stdout == b"ready\ndone\n"


def test_a_reader_that_goes_away_leaves_the_job_running(terminal: Terminal) -> None:
    script = "echo ready; sleep 0.5; echo lost on nobody; sleep 0.5; echo done"

    with terminal.typing("run", "--", "bash", "-c", script) as process:
        read_until(process, b"ready\n")
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, narration = process.communicate(timeout=PATIENCE)

    job_id = str(terminal.only_job()["id"])
    assert process.returncode == 141
    assert f"job {job_id} still runs" in narration.decode()
    assert terminal.type("wait", job_id).returncode == 0
    assert terminal.type("logs", job_id).stdout == b"ready\nlost on nobody\ndone\n"


def test_a_reader_that_goes_away_ends_logs_quietly(terminal: Terminal) -> None:
    job_id = terminal.type("run", "-d", "--", "seq", "200000").stdout.decode().strip()
    terminal.type("wait", job_id)

    with terminal.typing("logs", job_id) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, narration = process.communicate(timeout=PATIENCE)

    assert (process.returncode, narration) == (141, b"")


def test_logs_show_the_last_lines_of_one_stream(terminal: Terminal) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    job_id = json.loads(terminal.type("run", "--detach", "--json", "--", "bash", "-c", script).stdout)["id"]
    terminal.type("wait", job_id)

    tail = terminal.type("logs", "--tail", "2", "--stream", "stdout", job_id)
    records = terminal.type("logs", "--json", "--stream", "stderr", job_id).stdout.splitlines()

    assert (tail.stdout, tail.stderr) == (b"out 2\nout 3\n", b"")
    assert "".join(json.loads(record)["text"] for record in records) == "err 1\nerr 2\nerr 3\n"


def test_status_tells_the_story_in_order(terminal: Terminal) -> None:
    terminal.type("run", "--", "true")
    job_id = str(terminal.only_job()["id"])

    job = terminal.json("status", job_id)

    assert isinstance(job, dict)
    kinds = [event["kind"] for event in job["story"]]
    assert [kind for kind in kinds if kind in ("accepted", "claimed", "started", "exited")] == [
        "accepted",
        "claimed",
        "started",
        "exited",
    ]
    assert "accepted" in terminal.type("status", job_id).stdout.decode()


def test_jobs_are_listed_newest_first_in_pages(terminal: Terminal) -> None:
    names = ["first", "second", "third"]
    for name in names:
        terminal.type("run", "-q", "--name", name, "--", "true")

    page = terminal.json("ps", "--all", "--limit", "2")
    assert isinstance(page, list)
    rest = terminal.json("ps", "--all", "--before", page[-1]["id"])

    assert isinstance(rest, list)
    assert [job["name"] for job in [*page, *rest]] == names[::-1]


def test_a_running_job_is_deleted_only_by_force(terminal: Terminal) -> None:
    with terminal.typing("run", "--", "bash", "-c", "echo ready; sleep 60") as process:
        read_until(process, b"ready\n")
        job_id = str(terminal.only_job()["id"])

        refused = terminal.type("rm", job_id)
        forced = terminal.type("rm", "--force", job_id)

        assert (refused.returncode, forced.returncode) == (2, 0)
        process.communicate(timeout=PATIENCE)

    assert terminal.json("ps", "--all") == []


def test_an_unknown_job_is_not_found(terminal: Terminal) -> None:
    for verb in ("status", "logs", "wait", "stop", "rm"):
        done = terminal.type(verb, "00000000-0000-4000-8000-000000000000")

        assert (done.returncode, done.stdout) == (3, b""), verb


def test_deleting_goes_on_after_an_id_that_is_not_there(terminal: Terminal) -> None:
    terminal.type("run", "--", "true")
    job_id = str(terminal.only_job()["id"])

    done = terminal.type("rm", "00000000-0000-4000-8000-000000000000", job_id)

    assert (done.returncode, done.stdout.decode().strip()) == (3, job_id)


def test_the_shell_completes_job_ids(terminal: Terminal) -> None:
    terminal.type("run", "--", "true")
    job_id = str(terminal.only_job()["id"])
    terminal.environment |= {
        "_MAGPIE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"magpie status {job_id[:6]}",
        "COMP_CWORD": "2",
    }

    assert job_id in terminal.type().stdout.decode()


def test_a_state_directory_that_is_not_ours_is_an_error_with_its_cure(terminal: Terminal) -> None:
    if os.geteuid() == 0:  # whom no mode keeps out
        os.chown(terminal.home, 65534, 65534)
    terminal.home.chmod(0)

    done = terminal.type("ps")

    terminal.home.chmod(0o700)
    assert done.returncode == 255
    assert b"MAGPIE_HOME" in done.stderr


def test_a_damaged_database_is_an_error_with_its_cure_and_is_left_alone(terminal: Terminal) -> None:
    database = terminal.home / "magpie.db"
    database.write_bytes(b"this is no database" * 1000)
    database.chmod(0o600)

    done = terminal.type("ps")

    assert done.returncode == 255, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert database.read_bytes() == b"this is no database" * 1000
