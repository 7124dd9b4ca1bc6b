"""`--secret` as a user types it: the script has it, and nobody else."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Hunt = Callable[..., set[Any]]

PROVE = 'printf %s "$TOKEN" | sha256sum | cut -c 1-64; echo "told: $TOKEN"'
BASH = ["--", "bash", "-c", PROVE]


def proof(canary: str) -> str:
    return hashlib.sha256(canary.encode()).hexdigest() + "\ntold: ***\n"


def test_run_takes_it_from_the_environment_and_every_view_hides_it(home, hunt: Hunt, search, canary: str) -> None:
    out, err = home.type("run", "--secret", "TOKEN", *BASH, TOKEN=canary)
    assert out == proof(canary)
    search.text("narration", err)

    (job,) = json.loads(home.type("ps", "--all", "--json")[0])
    for words in (
        ["ps", "--all"],
        ["status", job["id"]],
        ["logs", job["id"]],
        ["outputs", job["id"]],
        ["config", "show"],
    ):
        for form in ([], ["--json"]):
            search.text(f"magpie {words}", "".join(home.type(*words, *form)))
    assert json.loads(home.type("status", job["id"], "--json")[0])["secrets"] == ["TOKEN"]
    assert hunt() == set()


def test_run_takes_it_from_a_file_and_no_process_of_ours_has_it(home, search, canary: str, tmp_path: Path) -> None:
    """A script's own process has it; it has none of our environment, and with a real VM is none of this machine's."""
    (tmp_path / "token").write_text(canary + "\n")
    script = f"cd {tmp_path}; echo on; until [ -e go ]; do sleep 0.05; done; {PROVE}"
    command = ["run", "-q", "--secret", f"TOKEN@{tmp_path}/token", "--", "bash", "-c", script]
    with subprocess.Popen(
        [sys.executable, "-m", "magpie_local.cli", *command], env=home.environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        search.processes(marked=f"MAGPIE_HOME={home.state}")
        (tmp_path / "go").touch()
        assert process.stdout.read().decode() == proof(canary)

    assert search.hits == set()


def test_a_keeper_does_not_inherit_it(home, search, canary: str) -> None:
    job_id = home.type("run", "--detach", "--secret", "TOKEN", "--", "sleep", "3", TOKEN=canary)[0].strip()
    keepers = [pid for pid in home.processes() if b"magpie_local.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert keepers

    search.processes(marked=f"MAGPIE_HOME={home.state}")

    assert search.hits == set()
    assert search.looked["environ"] >= len(keepers)
    home.type("wait", job_id)


def test_run_asks_for_it_without_echo(home, hunt: Hunt, search, canary: str) -> None:
    shown, code = _at_a_terminal(home, canary, "run", "--secret", "TOKEN", *BASH)

    assert code == 0, shown
    assert "Secret TOKEN: " in shown
    assert proof(canary).replace("\n", "\r\n") in shown
    search.text("terminal", shown)
    assert hunt() == set()


def _at_a_terminal(home, answer: str, *arguments: str) -> tuple[str, int]:
    """Type a command at a terminal, and the answer once the terminal does not echo; return all that it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "magpie_local.cli", *arguments], home.environment)
    shown = b""
    give_up = time.monotonic() + 30
    while not shown.endswith(b"Secret TOKEN: ") or termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < give_up, shown
        if not shown.endswith(b"Secret TOKEN: "):
            shown += os.read(terminal, 1024)
    os.write(terminal, answer.encode() + b"\n")
    with suppress(OSError):  # EIO: the last process has left the terminal
        while piece := os.read(terminal, 1024):
            shown += piece
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_exec_gives_it_to_the_command_alone(
    home, hunt: Hunt, search, canary: str, entered: None, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(canary)
    with home.client() as client:
        job = client.jobs.create("job", "true", memory_mb=64, persistent=True)
        client.jobs.wait(job.id, timeout=30)

        for entry, environment in (("TOKEN", {"TOKEN": canary}), (f"TOKEN@{tmp_path}/token", {})):
            out, err = home.type("exec", job.id, "--secret", entry, *BASH, **environment)
            assert (out, err) == (proof(canary), "")
        result = json.loads(home.type("exec", job.id, "--json", "--secret", "TOKEN", *BASH, TOKEN=canary)[0])
        assert result["stdout"] == proof(canary)

        (tmp_path / "token").unlink()
        assert hunt() == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--secret", "TOKEN={canary}"], "on the command line is none"),
        (["--secret", "NOT_SET"], "export it, or KEY@FILE"),
        (["--secret", "TOKEN@/nowhere"], "No such file"),
        (["--secret", "TOKEN@{file}", "-e", "TOKEN=x"], "either in env or in secret_env"),
        (["--secret", "TOKEN@{file}", "--secret", "TOKEN@{file}"], "named twice"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_what_is_no_secret_is_refused_in_a_line_that_does_not_tell_it(
    home, canary: str, tmp_path: Path, verb: str, arguments: list[str], said: str
) -> None:
    (tmp_path / "file").write_text(canary)
    words = [word.format(canary=canary, file=tmp_path / "file") for word in arguments]
    target = ["00000000-0000-4000-8000-000000000000"] if verb == "exec" else []

    out, err = home.type(verb, *target, *words, "--", "true", code=2)

    assert out == ""
    assert said in err
    assert canary not in err
    assert len(err.splitlines()) <= 2
