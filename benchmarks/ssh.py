"""SSH to a persistent VM: python -m benchmarks.ssh [--json FILE] [--size MIB] [--rounds N].

The VM is one of this run's own, in a state directory of its own. OpenSSH's client, through one master connection, is
the reference for commands, its scp the one for files; all go to the same port of the same VM, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Figure, number, report, spread, times
from benchmarks.warm import bench
from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Magpie
    from magpie_local.api.models import SshInfo

COMMANDS = 50
AT_ONCE = 20
_FILE = "file"


@dataclass(frozen=True)
class Place:
    """A running VM, and where files are on this side."""

    client: Magpie
    job_id: str
    door: SshInfo
    here: Path
    #: Bytes of the file that is copied.
    size: int

    def run(self, command: str) -> None:
        """Run a command in the VM as a user of the client does."""
        if not self.client.jobs.exec(self.job_id, command).success:
            raise SystemExit(f"{command!r} failed in the VM")


def main() -> None:
    """Run all parts and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.ssh")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--size", type=int, default=24, help="size of the file that is copied, MiB")
    parser.add_argument("--rounds", type=int, default=5, help="how often it is copied each way")
    arguments = parser.parse_args()
    with place(arguments.size * MIB) as found:
        figures = [*connections(found), *commands(found), *copies(found, arguments.rounds)]
    report("SSH to a persistent VM", figures, json_file=arguments.json)


@contextlib.contextmanager
def place(size: int) -> Iterator[Place]:
    """Start a persistent VM; it is stopped at the end."""
    with bench.client(pool=0) as client, tempfile.TemporaryDirectory(prefix="mgpbench") as here:
        job = client.jobs.create("bench", "echo ready", persistent=True)
        try:
            yield Place(client, job.id, client.jobs.ssh(job.id, timeout=300), Path(here), size)
        finally:
            client.jobs.stop(job.id)


def connections(place: Place) -> list[Figure]:
    """Return what it costs to come in anew; the first exec of a client includes it."""
    place.run("true")
    return [times("reference: ssh, a connection of its own", [timed(lambda: ssh(place, "true")) for _ in range(5)])]


def commands(place: Place) -> list[Figure]:
    """Return what a command costs on a live connection, one by one and many at once."""
    ours, theirs, ours_at_once, theirs_at_once = [], [], [], []
    with master(place) as options:
        for _ in range(COMMANDS):
            ours.append(timed(lambda: place.run("true")))
            theirs.append(timed(lambda: ssh(place, *options, "true")))
        for _ in range(3):
            ours_at_once.append(timed(lambda: at_once(lambda: place.run("true"))))
            theirs_at_once.append(timed(lambda: at_once(lambda: ssh(place, *options, "true"))))
    return [
        times("exec `true`", ours),
        times("reference: ssh with ControlMaster", theirs),
        number("ratio", statistics.median(ours) / statistics.median(theirs), "", goal="<= 1.5"),
        times(f"exec, {AT_ONCE} at once", ours_at_once),
        times("reference: the same with ControlMaster", theirs_at_once),
    ]


def copies(place: Place, rounds: int) -> list[Figure]:
    """Return how fast a large file is copied in both directions by scp, sftp, and by us over SFTP."""
    (place.here / _FILE).write_bytes(os.urandom(place.size))
    files = place.client.jobs.files(place.job_id)
    up, down = f"put {place.here / _FILE} theirs", f"get theirs {place.here / 'theirs'}"
    there = f"{place.door.alias}:theirs"
    ways: dict[str, Callable[[], object]] = {
        "upload": lambda: files.upload(place.here / _FILE, "ours", replace=True),
        "scp in": lambda: openssh(place, "scp", "-q", str(place.here / _FILE), there),
        "sftp in": lambda: openssh(place, "sftp", "-q", "-b", "-", place.door.alias, given=up),
        "download": lambda: files.download("ours", place.here / "ours", replace=True),
        "scp out": lambda: openssh(place, "scp", "-q", there, str(place.here / "theirs")),
        "sftp out": lambda: openssh(place, "sftp", "-q", "-b", "-", place.door.alias, given=down),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(place.size / MIB / timed(way))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    figures = []
    for ours, scp, sftp in (("upload", "scp in", "sftp in"), ("download", "scp out", "sftp out")):
        figures += [
            spread(ours, rates[ours], "MiB/s"),
            spread(f"OpenSSH's {sftp}", rates[sftp], "MiB/s"),
            spread(f"reference: {scp}", rates[scp], "MiB/s"),
            number(f"ratio, {ours}", middle[ours] / middle[scp], "", goal=">= 0.8"),
            number(f"ratio, {sftp}", middle[sftp] / middle[scp], "", goal=">= 0.8"),
        ]
    return figures


@contextlib.contextmanager
def master(place: Place) -> Iterator[list[str]]:
    """Keep a master connection open; give the options by which ssh goes through it."""
    options = ["-o", f"ControlPath={place.here}/master"]
    openssh(place, "ssh", *options, "-o", "ControlMaster=yes", "-N", "-f", place.door.alias)
    try:
        yield options
    finally:
        openssh(place, "ssh", *options, "-O", "exit", place.door.alias)


def ssh(place: Place, *words: str) -> None:
    """Run a command in the VM with OpenSSH's client; options may come before it."""
    *options, command = words
    openssh(place, "ssh", *options, place.door.alias, command)


def openssh(place: Place, program: str, *words: str, given: str = "") -> None:
    """Run one of OpenSSH's programs with the VM's configuration to its end, which must be a good one."""
    command = [program, "-F", place.door.config, *words]
    # No pipes for its output: a master connection stays behind and would hold them open.
    done = subprocess.run(command, input=given.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}")


def at_once(work: Callable[[], object]) -> None:
    """Do something many times at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work) for _ in range(AT_ONCE)]:
            done.result()


def timed(work: Callable[[], object]) -> float:
    """Return how long something takes, seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
