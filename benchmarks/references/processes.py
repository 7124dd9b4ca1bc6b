"""Processes of the references: tools that prepare something, and guests that end with the benchmark."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: As `images.tools.SEARCH_PATH`: mkfs lies where ordinary users do not look.
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_LOOK_EVERY = 0.002
_TAIL = 400


def require(*tools: str) -> None:
    """Raise ReferenceUnavailable unless all these tools are installed."""
    missing = [tool for tool in tools if shutil.which(tool, path=_search_path()) is None]
    if missing:
        raise ReferenceUnavailable(f"not installed: {', '.join(missing)}")


def run(*argv: str, cwd: Path, limit: float = 900.0, env: Mapping[str, str] | None = None) -> str:
    """Run a tool to its end in a process group of its own, and return what it wrote.

    Raises:
        ReferenceUnavailable: it is missing, failed, or took longer than `limit` seconds.
    """
    environ = {**os.environ, "PATH": _search_path(), "LC_ALL": "C", **(env or {})}
    with running(*argv, cwd=cwd, env=environ, output=subprocess.PIPE, patient=True) as process:
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise ReferenceUnavailable(f"{argv[0]} took longer than {limit:.0f} s") from None
    text = said.decode(errors="replace")
    if process.returncode:
        raise ReferenceUnavailable(f"{argv[0]} ended with code {process.returncode}: {_end_of(text)}")
    return str(text)


@contextlib.contextmanager
def running(
    *argv: str, cwd: Path, env: Mapping[str, str] | None = None, output: int = subprocess.DEVNULL,
    pass_fds: tuple[int, ...] = (), patient: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """Run a program in a session of its own; it and its children are killed at the end.

    setpriv has the kernel kill it too where this process dies without a chance to.

    Args:
        patient: terminate it first, so that it can clean up after itself.

    Raises:
        ReferenceUnavailable: there is no setpriv. (A missing program ends with code 127.)
    """
    command = ["setpriv", "--pdeathsig", "TERM" if patient else "KILL", *argv]
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=pass_fds,
        )  # fmt: skip
    except FileNotFoundError:
        raise ReferenceUnavailable("not installed: setpriv") from None
    try:
        yield process
    finally:
        _end(process, patient)


def wait_for_line(process: subprocess.Popen[bytes], output: Path, line: str, limit: float) -> None:
    """Return when a line of the file `output` is `line`.

    Raises:
        ReferenceUnavailable: the process ended without it, or it did not come within `limit` seconds.
    """
    give_up = time.monotonic() + limit
    while True:
        ended = process.poll() is not None  # before the look: what it wrote last counts
        text = output.read_bytes() if output.exists() else b""
        if has_line(text, line):
            return
        if ended:
            raise ReferenceUnavailable(
                f"it ended with code {process.returncode}: {_end_of(text.decode('utf-8', 'replace'))}"
            )
        if time.monotonic() > give_up:
            raise ReferenceUnavailable(
                f"no output line within {limit:.0f} s: {_end_of(text.decode('utf-8', 'replace'))}"
            )
        time.sleep(_LOOK_EVERY)


def has_line(output: bytes, line: str) -> bool:
    """Say whether a finished line of a console is `line`; an echoed command that holds it is none."""
    finished = output.replace(b"\r", b"\n").split(b"\n")[:-1]
    return line.encode() in finished


def _end(process: subprocess.Popen[bytes], patient: bool) -> None:
    if patient and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the group outlives its leader while it has members
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _search_path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"


def _end_of(text: str) -> str:
    return " | ".join(text[-_TAIL:].split("\n")).strip(" |") or "it said nothing"
