from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.references import ReferenceUnavailable
from benchmarks.references.processes import has_line, require, run, running, wait_for_line


@pytest.mark.parametrize("output", [b"hello\n", b"boot\r\nhello\r\n", b"one\nhello\ntwo"])
def test_a_finished_line_of_the_console_counts(output):
    assert has_line(output, "hello")


@pytest.mark.parametrize("output", [b"", b"hello", b"runcmd: echo hello\n", b"hello world\n"])
def test_an_unfinished_line_or_one_that_only_holds_the_text_does_not(output):
    assert not has_line(output, "hello")


def test_a_missing_tool_is_named():
    with pytest.raises(ReferenceUnavailable, match=r"not installed: no-such-tool$"):
        require("sh", "no-such-tool")


def test_a_tool_that_fails_is_unavailable_with_its_last_words(tmp_path):
    with pytest.raises(ReferenceUnavailable, match="sh ended with code 3: no network"):
        run("sh", "-c", "echo no network >&2; exit 3", cwd=tmp_path)


def test_a_guest_that_ends_without_its_line_is_unavailable(tmp_path):
    output = tmp_path / "output"
    with (
        output.open("wb") as sink,
        running("sh", "-c", "echo panic", cwd=tmp_path, output=sink.fileno()) as process,
        pytest.raises(ReferenceUnavailable, match="ended with code 0: panic"),
    ):
        wait_for_line(process, output, "hello", limit=30)


def test_children_end_with_the_guest_even_when_the_measurement_fails(tmp_path):
    def measure() -> None:
        with running("sh", "-c", "sleep 600 & echo $! > child; wait", cwd=tmp_path):
            _wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().endswith("\n"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()

    child = int((tmp_path / "child").read_text())
    _wait_until(lambda: not _is_alive(child))


def test_a_guest_ends_with_a_benchmark_that_is_killed(tmp_path):
    benchmark = (
        "import sys, pathlib, os, signal\n"
        "from benchmarks.references.processes import running\n"
        "with running('sleep', '600', cwd=pathlib.Path('/')) as process:\n"
        "    print(process.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", benchmark], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        guest = int(process.stdout.readline())
        _wait_until(lambda: b"sleep" in Path(f"/proc/{guest}/cmdline").read_bytes())
        process.kill()
    _wait_until(lambda: not _is_alive(guest))


def _is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until(condition) -> None:
    while not condition():  # pytest's own time limit ends it
        time.sleep(0.01)
