"""The byte search, state directories to search, and a door that leads from a fake VM to a real sshd."""

from __future__ import annotations

import getpass
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

SOURCE = Path(__file__).resolve().parents[3]
#: Longest wait for anything here, seconds.
PATIENCE = 30


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bytesearch = _load("magpie_test_bytesearch", Path(__file__).with_name("bytesearch.py"))
told = _load("magpie_test_secrets", Path(__file__).with_name("scripts.py"))
# The fixture of that name: one OpenSSH server of this machine.
sshd = _load("magpie_test_sshd", SOURCE / "tests" / "unit" / "guest" / "ssh" / "conftest.py").sshd

#: What a user types; the user of a fake VM is the one whom this machine's sshd lets in.
_COMMAND = """\
import getpass, os
from magpie_local.cli.main import main
from magpie_local.guest.ssh.access import SshFiles
if os.environ["MAGPIE_HYPERVISOR"] == "fake":
    SshFiles.access.__kwdefaults__["username"] = getpass.getuser()
main()
"""


@pytest.fixture
def canary() -> str:
    """Return a secret that is nowhere yet."""
    made: str = bytesearch.new_canary()
    return made


@pytest.fixture
def scripts() -> ModuleType:
    """Return what scripts do with their secret."""
    return told


@pytest.fixture
def search(canary: str):
    """Return a search for it."""
    return bytesearch.Search(canary)


@pytest.fixture
def written(canary: str) -> dict[str, bytes]:
    """Return the ways in which it may be written."""
    found: dict[str, bytes] = bytesearch.forms_of(canary)
    return found


@dataclass
class Home:
    """A user with a state directory and a key of their own."""

    folder: Path
    extra: dict[str, str] = field(default_factory=dict)
    #: What a user types, for `python -c`.
    command = _COMMAND

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def key(self) -> Path:
        return self.folder / "config" / "magpie_local" / "secret.key"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
        own = {
            "MAGPIE_HOME": str(self.state), "MAGPIE_CONFIG": "", "MAGPIE_HYPERVISOR": "fake", "MAGPIE_STOP_GRACE": "2",
            "MAGPIE_TEMPLATES": "0", "MAGPIE_POOL": "0", "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PYTHONPATH": str(SOURCE),
        }  # fmt: skip
        return {**inherited, **own, **self.extra}

    def client(self, *, lead: bool = True, **environment: str) -> Magpie:
        settings = config.load({**self.environment, "MAGPIE_KEEPER": "false", **environment})
        return Magpie(settings=settings, lead=lead)

    def type(self, *arguments: str, code: int | None = 0, stdin: bytes = b"", **environment: str) -> tuple[str, str]:
        """Run a command to its end; return what it prints on stdout and stderr."""
        done = subprocess.run(
            [sys.executable, "-c", self.command, *arguments], env=self.environment | environment, input=stdin,
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, (arguments, done.stdout.decode(), done.stderr.decode())
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done.stdout.decode(), done.stderr.decode()

    def processes(self) -> list[int]:
        """Return the processes of this state directory: keepers, VMs, scripts."""
        marks = (f"MAGPIE_HOME={self.state}\0".encode(), str(self.state).encode() + b"/")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                seen = (folder / "environ").read_bytes() + b"\0" + (folder / "cmdline").read_bytes()
                if int(folder.name) != os.getpid() and any(mark in seen for mark in marks):
                    found.append(int(folder.name))
        return found

    def clear(self) -> None:
        """Leave nothing behind, whatever a test did."""
        while alive := self.processes():
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        shutil.rmtree(self.folder)


def _home(monkeypatch: pytest.MonkeyPatch, **extra: str) -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="mag", dir="/tmp")), extra)
    # Engines of this process look for the key there, too.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made.folder / "config"))
    yield made
    made.clear()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Return a state directory with local processes in the place of VMs."""
    yield from _home(monkeypatch)


@pytest.fixture
def vm_home(monkeypatch: pytest.MonkeyPatch, image_folder: Path) -> Iterator[Home]:
    """Return a state directory for real VMs, with templates."""
    extra = {"MAGPIE_HYPERVISOR": "libvirt", "MAGPIE_IMAGES": str(image_folder), "MAGPIE_TEMPLATES": "4GiB"}
    yield from _home(monkeypatch, **extra)


@pytest.fixture
def engine_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Have everybody's log kept, down to the last word."""
    caplog.set_level(logging.NOTSET)
    for name in ("asyncssh", "asyncio", "magpie"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.fixture
def hunt(home: Home, search, engine_log: pytest.LogCaptureFixture) -> Callable[..., set[Any]]:
    """Return what looks everywhere, and returns what it has found."""
    return hunter(home, search, engine_log)


@pytest.fixture
def vm_hunt(vm_home: Home, search, engine_log: pytest.LogCaptureFixture) -> Callable[..., set[Any]]:
    """Return the same for real VMs."""
    return hunter(vm_home, search, engine_log)


def hunter(home: Home, search, engine_log: pytest.LogCaptureFixture) -> Callable[..., set[Any]]:
    def look() -> set[Any]:
        search.state(home.state, *filter(Path.is_dir, [config.runtime_dir(home.state), home.key.parent]))
        search.processes()
        with home.client(lead=False) as client:
            for job in client.jobs.list():
                publish(client, job, search)
        for record in engine_log.records:
            search.text("engine log", engine_log.handler.format(record))
        found: set[Any] = search.hits
        return found

    return look


def publish(client: Magpie, job: Any, search) -> None:
    """Look through all that clients tell of a job."""
    search.text("repr", repr(job))
    search.text("json", job.to_json())
    search.text("fields", {name: getattr(job, name) for name in job.__slots__})
    search.text("logs", client.jobs.get_logs(job.id))
    for chunk in client.jobs.stream_logs(job.id, follow=False):
        search.text("stream", repr(chunk))
    for event in client.jobs.story(job.id):
        search.text("story", repr(event))


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch, sshd) -> None:
    """Have the doors of fake VMs lead to this machine's sshd, and its user: in there, a fake VM is this machine."""
    from magpie_local.guest.ssh.access import SshFiles

    async def open_door(ports: Any, job: Any, *_rest: object) -> None:
        with (sshd.folder / "authorized_keys").open("a") as keys:
            keys.write(ports.doors.prepare(job.id) + "\n")
        ports.doors.write(job.id, port=sshd.port, host_key=sshd.host_key)

    defaults = SshFiles.access.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "username", getpass.getuser())
    monkeypatch.setattr("magpie_local.engine.starter.open_door", open_door)
