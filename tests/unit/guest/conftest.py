"""The real agent as a process of this host, and a client that may misbehave."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import magpie_local.testing
from magpie_local.domain.exitrecord import parse_exit
from magpie_local.domain.frames import EXIT, STDERR, STDOUT, ControlReader, LogReader, blob_frames, message_frame
from magpie_local.testing.processes import kill_descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local.domain.exitrecord import ExitRecord

PATIENCE = 15.0
_BARE = Path(magpie_local.testing.__file__).with_name("bare.py")


class Client:
    """A blocking connection to the control port."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._reader = ControlReader()
        self._heard: list[dict[str, object] | bytes] = []

    def send(self, **message: object) -> None:
        self.socket.sendall(message_frame(message))

    def order(self, script: bytes, **changes: object) -> list[bytes]:
        """Return the frames of a whole order."""
        message: dict[str, object] = {
            "op": "run", "attempt": "a-1", "nonce": "a-nonce", "timeout": None, "env": {}, "log_limit": 1 << 24,
            "script_size": len(script), "script_crc": zlib.crc32(script), "now": 1.5, "entropy": "00ff",
        }  # fmt: skip
        return [message_frame(message | changes), *blob_frames(script)]

    def run(self, script: bytes, **changes: object) -> None:
        """Send an order and wait for the start."""
        self.socket.sendall(b"".join(self.order(script, **changes)))
        assert self.answer()["op"] == "started"

    def answer(self) -> dict[str, object]:
        """Return the next message."""
        while not self._heard:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._heard += self._reader.feed(data)
        message = self._heard.pop(0)
        assert isinstance(message, dict)
        return message

    def hello(self) -> dict[str, object]:
        self.send(op="hello")
        while (answer := self.answer())["op"] != "state":
            pass
        return answer

    def close(self) -> None:
        self.socket.close()


class AgentProcess:
    """The agent, started as the fake hypervisor starts it."""

    def __init__(self, folder: Path, log: Path | None = None, *, patience: float = 0.0) -> None:
        self.folder = folder
        self.log = log or folder / "log"
        self.control = folder / "control"
        self.home = folder / "home"
        self.home.mkdir()
        command = [sys.executable, "-I", "-S", str(_BARE), "magpie_local.guest.agent.main"]
        command += ["--control", str(self.control), "--log", str(self.log), "--home", str(self.home)]
        command += ["--patience", str(patience), "--disks", str(folder / "disks")]
        self.outputs = folder / "outputs.tar"
        command += ["--outputs", str(self.outputs)]
        # As a shell does with what it starts in the background, and as the guest's init does.
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGUSR1)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        for number, handler in before:
            signal.signal(number, handler)
        self._clients: list[Client] = []

    def connect(self) -> Client:
        endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        endpoint.settimeout(PATIENCE)
        client = Client(endpoint)
        self._clients.append(client)
        eventually(lambda: endpoint.connect_ex(str(self.control)) == 0)
        return client

    def frames(self) -> list[tuple[int, int, bytes]]:
        return LogReader().feed(self.log.read_bytes())

    def output(self, *kinds: int) -> bytes:
        return b"".join(payload for kind, _, payload in self.frames() if kind in (kinds or (STDOUT, STDERR)))

    def wait_for(self, text: bytes) -> None:
        """Return when the script has written `text`."""
        eventually(lambda: self.log.exists() and text in self.output())

    def exit(self) -> ExitRecord:
        """Wait for the exit record."""
        eventually(lambda: self.log.exists() and self.output(EXIT) != b"")
        record = parse_exit(self.output(EXIT), "a-nonce")
        assert record is not None
        return record

    def close(self) -> None:
        for client in self._clients:
            client.close()
        # A failed test leaves a script behind, in a session of its own.
        kill_descendants(self.process.pid)
        self.process.kill()
        self.process.wait()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path)
    yield process
    process.close()


@pytest.fixture
def client(agent: AgentProcess) -> Client:
    return agent.connect()


@pytest.fixture
def agent_with_full_log(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path, log=Path("/dev/full"))
    yield process
    process.close()


@pytest.fixture
def impatient_agent(tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess(tmp_path, patience=0.3)
    yield started
    started.close()
