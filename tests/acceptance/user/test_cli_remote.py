"""ssh, exec, cp, forward and outputs as a user types them; a fake VM's door leads to this machine's own sshd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def client(home) -> Iterator[Any]:
    with home.client() as client:
        yield client


@pytest.fixture
def kept(client, entered: None) -> str:
    """Return the id of a job whose VM stays."""
    job = client.jobs.create("kept", "true", memory_mb=64, persistent=True)
    client.jobs.wait(job.id, timeout=30)
    identity: str = job.id
    return identity


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_exec_ends_as_the_command_did(home, kept: str, script: str, code: int) -> None:
    out, err = home.type("exec", kept[:8], "--", "sh", "-c", f"echo out; echo err >&2; {script}", code=code)

    assert (out, err) == ("out\n", "err\n")


def test_exec_kills_what_is_over_its_time(home, kept: str) -> None:
    assert home.type("exec", "--timeout", "300ms", kept, "--", "sleep", "60", code=124) == ("", "")


def test_exec_passes_words_input_folder_and_environment_on(home, kept: str, tmp_path: Path) -> None:
    words = ["a b", "$(id)", "it's", "", "-n", "*"]
    assert home.type("exec", kept, "--", "printf", "%s|", *words)[0] == "".join(f"{word}|" for word in words)
    assert home.type("exec", kept, "--stdin", "--", "cat", stdin=b"given\n")[0] == "given\n"
    assert home.type("exec", kept, "--cwd", str(tmp_path), "--", "pwd")[0] == f"{tmp_path}\n"
    shown, _ = home.type("exec", kept, "-e", "MODE=fast", "-e", "OURS", "--", "sh", "-c", "echo $MODE $OURS", OURS="on")
    assert shown == "fast on\n"


def test_exec_in_json_is_one_value(home, kept: str) -> None:
    out, err = home.type("exec", "--json", kept, "--", "sh", "-c", "echo out; exit 3", code=3)

    assert err == ""
    assert {"exit_code": 3, "stdout": "out\n", "timed_out": False}.items() <= json.loads(out).items()


def test_cp_copies_both_ways_and_overwrites_only_when_told(home, kept: str, tmp_path: Path) -> None:
    (tmp_path / "tree" / "empty").mkdir(parents=True)
    (tmp_path / "tree" / "one").write_text("1")
    (tmp_path / "tree" / "link").symlink_to("one")
    there = f"{kept[:8]}:{tmp_path}/there"

    _, told = home.type("cp", str(tmp_path / "tree"), there)
    assert "1 file, " in told
    assert "left out: " in told
    home.type("cp", there, str(tmp_path / "back"))
    assert (tmp_path / "back" / "one").read_text() == "1"
    assert (tmp_path / "back" / "empty").is_dir()

    (tmp_path / "tree" / "one").write_text("2")
    one = [str(tmp_path / "tree" / "one"), f"{kept}:{tmp_path}/there/one"]
    out, err = home.type("cp", *one, code=255)
    assert (out, (tmp_path / "there" / "one").read_text()) == ("", "1")
    assert "remove it first" in err
    home.type("cp", "--replace", *one)
    assert (tmp_path / "there" / "one").read_text() == "2"


def test_forward_lasts_until_it_is_told_to_end(home, kept: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        threading.Thread(target=_answer_once, args=(service,), daemon=True).start()
        command = [sys.executable, "-c", home.command, "forward", kept, str(port), "--json"]
        with subprocess.Popen(command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            bound = json.loads(b"".join(lines))
            with socket.create_connection((bound["host"], bound["port"])) as caller:
                assert caller.recv(100) == b"hello"
            process.send_signal(signal.SIGTERM)
            rest, err = process.communicate(timeout=30)

    assert (process.returncode, rest) == (0, b"")
    assert (bound["host"], bound["guest_port"]) == ("127.0.0.1", port)
    assert err == b"until Ctrl-C\n"


def test_forward_ends_with_the_vm(home, client, kept: str) -> None:
    command = [sys.executable, "-c", home.command, "forward", kept, "80"]
    with subprocess.Popen(command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"127.0.0.1:")
        client.jobs.stop(kept)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 255
    assert f"The VM of job {kept} is gone".encode() in err


def _answer_once(service: socket.socket) -> None:
    with service.accept()[0] as caller:
        caller.sendall(b"hello")


def test_forward_to_a_port_that_is_taken_here_says_so(home, kept: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        out, err = home.type("forward", kept, "80", "--local-port", str(port), code=255)

    assert out == ""
    assert str(port) in err


def test_outputs_are_listed_and_copied_and_never_overwritten(home, client, tmp_path: Path) -> None:
    job = client.jobs.run_and_wait("job", "mkdir out; echo 1 > out/a; echo 2 > b", memory_mb=64, outputs=["out/", "b"])

    assert sorted(home.type("outputs", job.id[:8])[0].split()) == ["b", "out/a"]
    listed = json.loads(home.type("outputs", job.id, "--json")[0])
    assert sorted(one["path"] for one in listed) == ["b", "out/a"]
    home.type("outputs", job.id, str(tmp_path / "got"))
    assert (tmp_path / "got" / "out" / "a").read_text() == "1\n"
    out, err = home.type("outputs", job.id, str(tmp_path / "got"), code=2)
    assert (out, "overwritten" in err) == ("", True)

    bare = client.jobs.run_and_wait("bare", "true", memory_mb=64)
    assert home.type("outputs", bare.id) == ("", "no files were collected\n")
    assert home.type("outputs", bare.id, "--json")[0] == "[]\n"


def test_ssh_becomes_openssh_with_the_vms_own_configuration(home, kept: str, tmp_path: Path) -> None:
    seen = tmp_path / "ssh"
    seen.write_text('#!/bin/sh\nprintf "%s\\n" "$@"; exit 9\n')
    seen.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    config = f"{home.state}/doors/{kept}/config"

    def typed(*words: str) -> list[str]:
        shown: str = home.type("ssh", kept[:8], *words, code=9, PATH=path)[0]
        return shown.splitlines()

    assert typed() == ["-F", config, kept[:8]]
    assert typed("--", "sudo", "dmesg") == ["-F", config, kept[:8], "sudo", "dmesg"]
    assert typed("--", "-N", "-L", "1:h:2") == ["-F", config, "-N", "-L", "1:h:2", kept[:8]]


def test_without_ssh_on_this_machine_the_package_is_named(home, tmp_path: Path) -> None:
    _, err = home.type("ssh", NOBODY, code=255, PATH=str(tmp_path))

    assert "openssh-client" in err


#: The verbs, with what stands before and after the id.
VERBS = [
    (["ssh"], []), (["exec"], ["--", "true"]), (["forward"], ["80"]), (["cp"], ["/tmp/nowhere"]), (["outputs"], []),
]  # fmt: skip


def words(verb: list[str], identity: str, rest: list[str]) -> list[str]:
    return [*verb, f"{identity}:file" if verb == ["cp"] else identity, *rest]


@pytest.mark.parametrize(("identity", "code"), [(NOBODY, 3), ("abcd", 3), ("no id", 3), ("ab", 2)])
@pytest.mark.parametrize(("verb", "rest"), VERBS, ids=lambda part: " ".join(part))
def test_an_id_of_nobody_is_told_in_a_line_with_its_cure(
    home, verb: list[str], rest: list[str], identity: str, code: int
) -> None:
    out, err = home.type(*words(verb, identity, rest), code=code)

    assert out == ""
    assert len(err.splitlines()) <= 2
    assert "magpie ps" in err or "at least 4 characters" in err


@pytest.mark.parametrize(("verb", "rest"), VERBS[:-1], ids=lambda part: " ".join(part))
def test_a_vm_that_did_not_stay_or_is_gone_is_told_in_a_line_with_its_cure(
    home, client, kept: str, verb: list[str], rest: list[str]
) -> None:
    passing = client.jobs.run_and_wait("passing", "true", memory_mb=64)
    client.jobs.stop(kept)

    out, err = home.type(*words(verb, passing.id, rest), code=2)
    assert (out, "persistent=True" in err, len(err.splitlines())) == ("", True, 1)
    out, err = home.type(*words(verb, kept, rest), code=255)
    assert (out, f"The VM of job {kept} is gone" in err, len(err.splitlines())) == ("", True, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exec", NOBODY], "magpie exec ID -- COMMAND"),
        (["exec"], "Missing argument 'ID'"),
        (["exec", "--timeout", "soon", NOBODY, "--", "true"], "90s"),
        (["exec", "-e", "NOT_SET", NOBODY, "--", "true"], "export it first"),
        (["cp", "a", "b"], "ID:PATH"),
        (["cp", "abcd:a", "abcd:b"], "ID:PATH"),
        (["cp", "./abcd:a", "b"], "ID:PATH"),
        (["cp", "a"], "Missing argument 'DESTINATION'"),
        (["forward", NOBODY], "Missing argument 'GUEST_PORT'"),
        (["forward", NOBODY, "0"], "1<=x<=65535"),
        (["forward", NOBODY, "80", "--local-port", "65536"], "0<=x<=65535"),
        (["outputs"], "Missing argument 'ID'"),
        (["ssh"], "Missing argument 'ID'"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(home, arguments: list[str], said: str) -> None:
    out, err = home.type(*arguments, code=2)

    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exec", "{id}", "--timeout", "0s", "--", "true"], "timeout"),
        (["exec", "{id}", "-e", "1KEY=x", "--", "true"], "does not begin with a digit"),
        (["forward", "{id}", "80", "--local-host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["cp", "{id}:/no/such/file", "{folder}/x"], "/no/such/file"),
        (["cp", "{folder}/missing", "{id}:x"], "missing"),
    ],
)
def test_what_can_not_be_done_is_told_in_a_line_with_its_cure(
    home, kept: str, tmp_path: Path, arguments: list[str], said: str
) -> None:
    out, err = home.type(*(word.format(id=kept, folder=tmp_path) for word in arguments), code=None)

    assert out == ""
    assert said in err
    assert "bug" not in err
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize("verb", ["ssh", "exec", "cp", "forward", "outputs"])
def test_each_verb_has_help_with_an_example(home, verb: str) -> None:
    out, _ = home.type(verb, "--help")

    assert out.startswith("Usage: ")
    assert f"  magpie {verb} " in out
