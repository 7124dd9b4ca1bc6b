"""What becomes of VMs that stay when their engine is killed: `python -m benchmarks.recovery [--json FILE]`.

Ten persistent VMs run. Time and again the process that leads is ended with SIGKILL, and another one is started: when
has it adopted the last of them, by the time in each job's story; and does the ssh command work then?
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Figure, number, report, times
from magpie_local import Magpie, config
from magpie_local.domain.states import EventKind
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.config import Settings

_MEMORY_MB = 256
_LIMIT = 120.0
_LOOK = 0.05


def main() -> None:
    """Measure, and print a table; or be the process that leads."""
    options = _options()
    if options.lead:
        lead(options.vms)
        return
    report(f"recovery with {options.vms} persistent VMs", measure(options.vms, options.rounds), json_file=options.json)


def lead(count: int) -> None:
    """Start the VMs, where there are none, and keep them until killed; tell of each step with its time."""
    _tell("opened")
    with Magpie() as client:
        if not client.jobs.list():
            client.templates.warm("base", 1, _MEMORY_MB)
            jobs = [
                client.jobs.create(f"vm {number}", "echo ready", memory_mb=_MEMORY_MB, persistent=True)
                for number in range(count)
            ]
            for job in jobs:
                client.jobs.wait(job.id, timeout=_LIMIT)
        _tell("kept")
        sys.stdin.read()


def measure(count: int, rounds: int) -> list[Figure]:
    """Kill and start `rounds` times, with `count` VMs."""
    opened, started, entered = [], [], []
    with state_directory(count) as settings, Magpie(settings=settings, lead=False) as looker:
        with leading(settings, count) as (process, _):
            _hear(process, "kept")
            kept = [job.id for job in looker.jobs.list(status="running")]
        if len(kept) != count:
            raise RuntimeError(f"{len(kept)} of {count} VMs stay")
        vms = _qemus(settings.home)
        for at in range(rounds):
            began = time.time()
            with leading(settings, count) as (process, ready_at):
                last = max(adopted_at(looker, job_id, began) for job_id in kept)
                started.append(last - began)
                opened.append(last - ready_at)
                entered.append(enter(looker, kept[at % count]))
        same = vms == _qemus(settings.home)
    return [
        times(f"engine opened -> all {count} adopted", opened, goal="<= 2000"),
        times("its process started -> all adopted", started),
        times("then: the ssh command of one, until it has ended", entered),
        number("VMs that were lost or started anew", 0 if same else 1, "", goal="0"),
    ]


@contextmanager
def state_directory(count: int) -> Iterator[Settings]:
    """Yield the settings of an empty state directory; at the end its VMs are stopped, and it is removed."""
    # Short: sockets lie below it.
    home = Path(tempfile.mkdtemp(prefix="mgpbench", dir="/var/tmp"))
    settings = config.load(home=home, pool=0, templates="4 GiB", keeper=False, cpus=count + 2)
    try:
        yield settings
    finally:
        with Magpie(settings=settings) as client:
            for job in client.jobs.list():
                with suppress(MagpieError):
                    client.jobs.delete(job.id, force=True)
        shutil.rmtree(home)


@contextmanager
def leading(settings: Settings, count: int) -> Iterator[tuple[subprocess.Popen[str], float]]:
    """Yield a process that leads, and when it opened its client (wall clock); at the end it is killed."""
    command = [sys.executable, "-m", "benchmarks.recovery", "--lead", "--vms", str(count)]
    environment = {**os.environ, **settings.environment()}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        cwd=Path(__file__).resolve().parent.parent,
    ) as process:  # fmt: skip
        try:
            yield process, _hear(process, "opened")
        finally:
            process.kill()


def adopted_at(looker: Magpie, job_id: str, began: float) -> float:
    """Return when a job's VM was adopted after `began` (wall clock); wait for that.

    Raises:
        TimeoutError: it never was.
    """
    give_up = time.monotonic() + _LIMIT
    while time.monotonic() < give_up:
        for event in reversed(looker.jobs.story(job_id)):
            if event.kind is EventKind.ADOPTED and event.time >= began:
                return event.time
        time.sleep(_LOOK)
    raise TimeoutError(f"nobody has adopted the VM of {job_id}")


def enter(looker: Magpie, job_id: str) -> float:
    """Return how long the ssh command of a job takes to run `true`, seconds."""
    command = looker.jobs.ssh(job_id).command
    began = time.monotonic()
    subprocess.run(["sh", "-c", f"{command} true"], check=True, timeout=_LIMIT)
    return time.monotonic() - began


def _qemus(home: Path) -> set[str]:
    """Return the numbers of the QEMU processes whose files lie below a folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"qemu-system" in command.split(b"\0")[0] and os.fsencode(home) in command:
                found.add(process.name)
    return found


def _tell(word: str) -> None:
    print(word, time.time(), flush=True)


def _hear(process: subprocess.Popen[str], word: str) -> float:
    """Return the time that goes with the next word of a process."""
    assert process.stdout is not None
    line = process.stdout.readline().split()
    if not line or line[0] != word:
        raise RuntimeError(f"the process that leads said {line}, not {word!r}")
    return float(line[1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.recovery")
    parser.add_argument("--vms", type=int, default=10, help="persistent VMs")
    parser.add_argument("--rounds", type=int, default=20, help="kills")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--lead", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
