"""Commands on a real OpenSSH server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import InvalidInput, SshError, SshLost

if TYPE_CHECKING:
    from magpie_local.guest.ssh.shell import SshShell
    from magpie_local.ports.shell import ShellResult

#: Sleeps that nothing else on this machine does, so that they can be found.
SLEEP = 86_399


async def until(condition, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Started:
    """Reads the process ids that a command prints, one a line."""

    def __init__(self) -> None:
        self.output = b""

    def __call__(self, stream: str, data: bytes) -> None:
        self.output += data

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.output.split(b"\n")[:-1]]


async def start(shell: SshShell, text: str, count: int, **more: object) -> tuple[asyncio.Task[ShellResult], list[int]]:
    """Start a command that prints `count` process ids; return its task and them."""
    started = Started()
    task: asyncio.Task[ShellResult] = asyncio.create_task(shell.run(text, on_output=started, **more))  # type: ignore[arg-type]
    await until(lambda: len(started.pids) == count or task.done())
    assert len(started.pids) == count, task
    return task, started.pids


#: A shell, a child, and a grandchild in another process group's shell that ignores SIGTERM.
FAMILY = f"echo $$; sleep {SLEEP} & echo $!; bash -c 'trap \"\" TERM; echo $$; while :; do sleep {SLEEP}; done'"


async def test_a_command_tells_exit_code_and_both_outputs(shell):
    result = await shell.run("echo out; echo err >&2; exit 7")

    assert (result.exit_code, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
    assert (result.signal, result.timed_out, result.truncated) == (None, False, False)
    assert 0 < result.duration < 15


async def test_text_is_for_the_shell_and_a_list_for_no_shell(shell):
    assert (await shell.run("echo $((6 * 7))")).stdout == b"42\n"
    assert (await shell.run(["printf", "%s|", "a b", "$HOME", "'\"\n"])).stdout == b"a b|$HOME|'\"\n|"


@pytest.mark.parametrize("command", ["if", "echo 'open", "echo (("])
async def test_a_syntax_error_is_the_shells_own_business(shell, command):
    result = await shell.run(command)

    assert result.exit_code not in (0, None)
    assert b"line" in result.stderr


async def test_a_program_that_does_not_exist_exits_with_127(shell):
    assert (await shell.run(["/no/such/program"])).exit_code == 127


async def test_a_signal_is_told_by_its_name(shell):
    result = await shell.run("kill -KILL $$")

    assert (result.exit_code, result.signal, result.timed_out) == (None, "KILL", False)


async def test_every_byte_comes_through_as_it_was(shell):
    every = bytes(range(256)) * 300

    result = await shell.run("tee /dev/stderr", stdin=every)

    assert result.stdout == every
    assert result.stderr == every


async def test_without_input_a_command_reads_nothing(shell):
    assert (await shell.run("wc -c")).stdout.strip() == b"0"


async def test_input_that_nobody_reads_is_no_error(shell):
    assert (await shell.run("true", stdin=bytes(4_000_000))).exit_code == 0


async def test_output_over_the_limit_is_dropped_and_flagged(shell):
    seen = 0

    def count(stream, data):
        nonlocal seen
        seen += len(data)

    result = await shell.run("head -c 3000000 /dev/zero; echo tail >&2", limit=1000, on_output=count)

    assert result.stdout == bytes(1000)
    assert result.stderr == b"tail\n"
    assert result.truncated
    assert seen == 3_000_005


async def test_output_of_exactly_the_limit_is_whole(shell):
    result = await shell.run("printf 12345", limit=5)

    assert (result.stdout, result.truncated) == (b"12345", False)


async def test_output_is_told_while_the_command_runs(shell):
    first = asyncio.Event()
    running = asyncio.create_task(shell.run("echo one; read x; echo two", timeout=30, on_output=lambda *_: first.set()))

    await first.wait()

    assert (await running).stdout == b"one\ntwo\n"


async def test_variables_arrive_whatever_is_in_them(shell):
    values = {"A": "it's", "B": 'a "b" $C `d` \\', "C": "two\nlines\n", "D": "", "E": "grüße", "F": "\r\t\x01\x7f"}

    result = await shell.run(["sh", "-c", "for n in A B C D E F; do printenv $n; printf '\\0'; done"], env=values)

    assert result.stdout.decode() == "".join(f"{value}\n\0" for value in values.values())


async def test_more_variables_arrive_than_sshd_would_take(shell):
    result = await shell.run("env | grep -c ^MANY_", env={f"MANY_{n}": "x" * 100 for n in range(500)})

    assert result.stdout == b"500\n"


async def test_variables_leave_nothing_of_ours_and_the_input_untouched(shell):
    result = await shell.run("echo ${_magpie-none} ${_magpie_n-none}; cat", env={"A": "b\nc"}, stdin=b"input\n")

    assert result.stdout == b"none none\ninput\n"


async def test_a_variable_is_in_no_argument_list(shell):
    secret = "Vq7secret2f9c"

    task, (pid,) = await start(shell, f"echo $$; sleep {SLEEP}; :", 1, env={"TOKEN": secret}, timeout=30)
    found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if secret.encode() in read(path)]
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    task.cancel()

    assert found == []
    assert secret.encode() not in environ  # that is the shell's own; its children's has it


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_a_command_runs_in_the_folder_it_is_given(shell, tmp_path):
    odd = tmp_path / "-it's $odd"
    odd.mkdir()

    assert (await shell.run("pwd", cwd=str(odd))).stdout.decode() == f"{odd}\n"
    assert (await shell.run("pwd", cwd="/no/such/folder")).exit_code == 126


@pytest.mark.parametrize(
    "bad",
    [
        {"command": []}, {"command": "a\0b"}, {"command": ["a", "b\0"]}, {"command": "x" * 130_000},
        {"env": {"A B": "x"}}, {"env": {"A": "x\0"}}, {"env": {"A": 1}}, {"env": {"A;id": ""}}, {"cwd": "a\0"},
        {"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")},
    ],
    ids=lambda bad: "-".join(bad),
)  # fmt: skip
async def test_what_can_not_be_passed_on_is_refused(shell, bad):
    with pytest.raises(InvalidInput):
        await shell.run(**({"command": "true"} | bad))


async def test_time_that_is_over_kills_the_whole_group(shell):
    began = time.monotonic()
    task, pids = await start(shell, FAMILY, 3, timeout=1.0)

    result = await task

    assert result.timed_out
    assert time.monotonic() - began < 10
    await until(lambda: not any(map(is_alive, pids)), 2)


async def test_a_command_that_is_over_in_time_is_not_timed_out(shell):
    result = await shell.run("exit 3", timeout=30)

    assert (result.exit_code, result.timed_out) == (3, False)


async def test_a_cancelled_command_is_gone_when_the_call_is(shell):
    task, pids = await start(shell, FAMILY, 3)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not any(map(is_alive, pids))
    assert (await shell.run("echo still here")).stdout == b"still here\n"


async def test_a_command_cancelled_at_any_moment_of_its_start_leaves_nothing(shell, tmp_path):
    path = tmp_path / "pids"
    for turn in range(20):
        task = asyncio.create_task(shell.run(f"echo $$ >> {path}; exec sleep {SLEEP}"))
        for _ in range(turn):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002 * (turn % 10))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await until(lambda: not path.exists() or not any(is_alive(int(pid)) for pid in path.read_text().split()))


async def test_a_broken_connection_ends_the_commands_on_it(sshd, shell):
    task, pids = await start(shell, FAMILY, 3)

    sshd.cut()

    with pytest.raises(SshLost):
        await task
    await until(lambda: not any(map(is_alive, pids)))


async def ended_for(running: asyncio.Task[ShellResult]) -> None:
    """Wait for a command whose connection is closed here: it was killed, or nobody knows."""
    with contextlib.suppress(SshError):
        assert (await running).signal == "TERM"


async def test_what_a_finished_command_left_behind_outlives_the_connection(shell):
    result = await shell.run(f"sleep {SLEEP} >/dev/null 2>&1 & echo $!")
    pid = int(result.stdout)
    running = asyncio.create_task(shell.run(f"sleep {SLEEP}"))

    await shell.close()
    await ended_for(running)

    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


async def test_a_command_that_just_starts_ends_with_the_connection(connect, tmp_path):
    path = tmp_path / "pids"
    for turn in range(6):
        async with connect() as shell:
            running = asyncio.create_task(shell.run(f"echo $$ >> {path}; exec sleep {SLEEP}"))
            for _ in range(2 ** (turn + 1)):
                await asyncio.sleep(0)
        await ended_for(running)

    await until(lambda: not path.exists() or not any(is_alive(int(pid)) for pid in path.read_text().split()))


async def test_the_connection_is_made_anew_after_it_broke(sshd, shell):
    assert (await shell.run("echo one")).stdout == b"one\n"
    sshd.cut()

    assert (await shell.run("echo two")).stdout == b"two\n"


async def test_a_server_that_comes_back_in_a_moment_is_waited_for(sshd, shell):
    sshd.stop()
    try:
        assert (await shell.run("echo one")).stdout == b"one\n"  # an open connection needs no listener
        (
            await shell._link.connection()
        ).abort()  # the nearest thing to a dropped connection without a server to drop it
        running = asyncio.create_task(shell.run("echo two"))
        await asyncio.sleep(0.3)
    finally:
        await asyncio.to_thread(sshd.start)

    assert (await running).stdout == b"two\n"


async def test_thirty_commands_run_at_once_on_one_connection(shell, tmp_path):
    # Each waits for all others: one after the other they would never end.
    (tmp_path / "in").mkdir()
    text = ": > in/$N; until [ $(ls in | wc -l) = 30 ]; do sleep 0.1; done; echo $N $SSH_CONNECTION"

    results = await asyncio.gather(
        *(shell.run(text, cwd=str(tmp_path), env={"N": str(n)}, timeout=40) for n in range(30))
    )

    assert [result.stdout.split()[0] for result in results] == [str(n).encode() for n in range(30)]
    assert len({tuple(result.stdout.split()[1:]) for result in results}) == 1


async def test_an_error_of_the_callers_own_function_ends_the_command(shell):
    def fail(stream, data):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await shell.run(f"echo one; sleep {SLEEP}", on_output=fail)
    assert (await shell.run("echo two")).stdout == b"two\n"
