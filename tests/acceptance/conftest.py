"""A state directory for programs that run as real processes, on the fake hypervisor."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job


@dataclass
class Place:
    """A state directory, and the processes that were started on it."""

    home: Path

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of a user's process here; no test leaves another one's settings in it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
        own = {"MAGPIE_HOME": str(self.home), "MAGPIE_HYPERVISOR": "fake", "MAGPIE_CPUS": "32"}
        return {**inherited, "MAGPIE_TEMPLATES": "0", "MAGPIE_POOL": "0", **own}

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start Python with `command` as a user's program, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-u", *command],
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def client(self) -> Magpie:
        """Return a client of this process that only looks."""
        return Magpie(settings=config.load({**self.env, "MAGPIE_KEEPER": "false"}), lead=False)

    def ended(self, job_id: str, within: float = 20.0) -> Job:
        """Return a job once it has ended."""
        with self.client() as client:
            return client.jobs.wait(job_id, timeout=within)

    def processes(self, word: str = "") -> list[int]:
        """Return the processes that have this state directory in their environment, and `word` on their command line.

        The test's own process does not, and a zombie has neither.
        """
        mark = f"MAGPIE_HOME={self.home}\0".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes() and word.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it has ended, or it belongs to somebody else
                continue
        return found

    def keepers(self) -> list[int]:
        """Return the keepers."""
        return self.processes("magpie_local.keeper")

    def comes_to_rest(self, within: float = 20.0) -> bool:
        """Return whether all processes on this state directory end by themselves."""
        return eventually(lambda: not self.processes(), within)


@dataclass
class Ended:
    """How an example ended."""

    code: int
    out: str
    err: str


@dataclass
class Examples:
    """All examples of the seed, running at once on one state directory."""

    place: Place
    processes: dict[str, subprocess.Popen[str]]

    def __call__(self, name: str) -> Ended:
        """Return how an example ended, once it has."""
        process = self.processes[name]
        out, err = process.communicate(timeout=110)
        return Ended(process.returncode, out, err)


def eventually(holds: Callable[[], object], within: float = 20.0) -> bool:
    """Return whether something becomes true in time."""
    give_up = time.monotonic() + within
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="session", name="eventually")
def _eventually() -> Callable[..., bool]:
    return eventually


@pytest.fixture(scope="session")
def make_place() -> Iterator[Callable[[], Place]]:
    """Make state directories with paths that are short enough for sockets; at the end nothing of them is left."""
    made: list[Place] = []

    def make() -> Place:
        made.append(Place(Path(tempfile.mkdtemp(prefix="mag", dir="/tmp")) / "state"))
        return made[-1]

    yield make
    for place in made:
        while alive := place.processes():
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(place.home.parent)


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    """Return an empty state directory."""
    return make_place()


@pytest.fixture(scope="session")
def examples(make_place: Callable[[], Place]) -> Iterator[Examples]:
    """Start all examples of seed 000."""
    place = make_place()
    folder = Path(__file__).parent / "seed_000"
    running = {path.stem: place.start(str(path)) for path in sorted(folder.glob("*.py"))}
    yield Examples(place, running)
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="session", autouse=True)
def _examples_run_meanwhile(request: pytest.FixtureRequest) -> None:
    """Start the examples before the other tests: one of them sleeps for a minute, which then costs no time."""
    if any("examples" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("examples")


def qemus_of(home: Path) -> list[int]:
    """Return the QEMU processes whose files lie below a state directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"qemu-system" in words[0] and any(str(home).encode() in word for word in words):
                found.append(int(process.name))
    return found


@pytest.fixture(scope="session")
def qemus() -> Callable[[Path], list[int]]:
    """Return what finds the QEMU processes of a state directory."""
    return qemus_of


@pytest.fixture
def vm_home() -> Iterator[Path]:
    """A state directory for real VMs, short enough for sockets; no VM of it is left, whatever the test did."""
    yield from _vm_home()


@pytest.fixture(scope="module")
def shared_vm_home() -> Iterator[Path]:
    """The same for all tests of a file: its templates are made once."""
    yield from _vm_home()


def _vm_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="mgpv", dir=tempfile.gettempdir()))
    yield home
    for pid in qemus_of(home):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)
