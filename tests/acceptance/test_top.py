"""`magpie top` as a user types it: on a terminal, and into a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Magpie

    Start = Callable[..., subprocess.Popen[str]]

COMMAND = ("-m", "magpie_local.cli", "top")


@pytest.fixture
def running(place) -> Iterator[tuple[Magpie, str]]:
    """A client that drives, and the id of a job that is busy."""
    from magpie_local import Magpie, config

    settings = config.load({**place.env, "MAGPIE_KEEPER": "false"}, home=place.home)
    with Magpie(settings=settings) as client:
        job = client.jobs.create("busy", "while :; do :; done", memory_mb=64)
        next(client.jobs.stream_metrics(job.id))
        yield client, job.id
        with contextlib.suppress(Exception):  # a test may have deleted it
            client.jobs.delete(job.id, force=True)


class Screen:
    """A terminal of 100 columns and 10 rows with a program on it."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 100, 0, 0))
        sizes = {"COLUMNS", "LINES"}
        self.process = subprocess.Popen(
            [sys.executable, *COMMAND, *arguments],
            env={name: value for name, value in env.items() if name not in sizes} | {"TERM": "xterm"},
            stdin=other, stdout=other, stderr=other, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = ""

    def until(self, pattern: str) -> None:
        """Read until something is shown."""
        while not re.search(pattern, self.seen):
            piece = self._piece()
            assert piece, f"ended after {self.seen!r}"
            self.seen += piece

    def ended(self) -> int:
        """Read to the end; return the exit code."""
        while piece := self._piece():
            self.seen += piece
        os.close(self._main)
        return self.process.wait(timeout=20)

    def _piece(self) -> str:
        try:
            return os.read(self._main, 65536).decode()
        except OSError:  # the other side is closed
            return ""


def test_on_a_terminal_the_table_is_renewed_until_ctrl_c(place, running) -> None:
    screen = Screen(place.env, "--interval", "0.2")

    screen.until(r"\x1b\[\d+F(?s:.)*\x1b\[\d+F")
    screen.process.send_signal(signal.SIGINT)

    assert screen.ended() == 0
    first, second, *_ = re.split(r"\x1b\[\d+F", screen.seen)
    assert "1 VM · CPU" in first
    for frame in (first, second):
        assert re.search(r"busy +(running|pending) +\d+% ", frame)
    assert "Traceback" not in screen.seen


def test_a_chosen_job_is_shown_until_its_vm_is_gone(place, running) -> None:
    client, job_id = running
    screen = Screen(place.env, job_id[:8], "--interval", "0.2")

    screen.until(r"busy +running")
    client.jobs.stop(job_id)

    assert screen.ended() == 0
    assert re.search(r"busy +stopped +- ", screen.seen)


def test_into_a_pipe_goes_one_table(place, running) -> None:
    out, err = place.start(*COMMAND).communicate(timeout=60)

    head, row = out.splitlines()
    assert head.split()[:4] == ["ID", "NAME", "STATUS", "CPU"]
    assert row.startswith(running[1][:8])
    assert ("\x1b" in out, err) == (False, "")


def test_json_has_a_sample_of_just_now(place, running) -> None:
    out, _ = place.start(*COMMAND, running[1][:8], "--json").communicate(timeout=60)

    (record,) = json.loads(out)
    assert record["id"] == running[1]
    assert 0.4 < record["sample"]["seconds"] < 30
    assert record["sample"]["memory"] > MIB


def test_without_a_vm_it_says_so(place) -> None:
    process = place.start(*COMMAND)
    out, err = process.communicate(timeout=60)

    assert (out, process.returncode) == ("", 0)
    assert "no job has a VM" in err


@pytest.mark.parametrize(("arguments", "code"), [(("--interval", "1ms"), 2), (("0000-00",), 3), (("--nope",), 2)])
def test_what_is_wrong_is_told_in_a_line(place, arguments: tuple[str, ...], code: int) -> None:
    process = place.start(*COMMAND, *arguments)
    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert "Traceback" not in err
