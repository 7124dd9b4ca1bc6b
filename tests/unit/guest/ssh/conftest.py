"""A real OpenSSH server as a process of this host, and what is needed to reach it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.guest.identity import _host_key
from magpie_local.guest.ssh.access import SshAccess, SshFiles
from magpie_local.guest.ssh.opener import SshShells

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.guest.ssh.shell import SshShell
    from magpie_local.ports.shell import Shells

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
SHELLS = SshShells()
#: That it is what the port asks for is checked with the types.
PORT: Shells = SHELLS
JOB = "0c1d2e3f-0000-4000-8000-00000000beef"
CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PidFile none
MaxSessions 100
MaxStartups 100
AllowTcpForwarding yes
Subsystem sftp internal-sftp
"""


@dataclass
class Server:
    """A running sshd; `stop` and `start` keep port and keys."""

    folder: Path
    port: int
    host_key: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SSHD is not None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        deadline = time.monotonic() + 10
        while not listens(self.port):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the listener; connections that are open go on."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def cut(self) -> None:
        """End every connection the hard way, as a VM's sshd that is killed does."""
        assert self.process is not None
        sessions = children(self.process.pid)
        users = [pid for one in sessions for pid in children(one) if command(pid).startswith("sshd")]
        for pid in sessions + users:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory):
    """One sshd for all tests of the folder; its authorized_keys grow as tests come."""
    if SSHD is None:
        pytest.skip("OpenSSH's server is not installed (package openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it refuses to start without
    folder = tmp_path_factory.mktemp("sshd")
    private, public = _host_key()
    (folder / "host_key").write_text(private)
    (folder / "host_key").chmod(0o600)
    (folder / "authorized_keys").touch(mode=0o600)
    server = Server(folder, free_port(), public)
    (folder / "sshd_config").write_text(CONFIGURATION.format(port=server.port, folder=folder))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def access(sshd: Server, tmp_path: Path) -> SshAccess:
    """Keys and configuration for that server, in a folder whose path needs quoting."""
    return let_in(sshd, SshFiles(tmp_path / "a b%h's"))


def let_in(server: Server, files: SshFiles) -> SshAccess:
    with (server.folder / "authorized_keys").open("a") as keys:
        keys.write(files.prepare() + "\n")
    return files.write(JOB, port=server.port, host_key=server.host_key, username=getpass.getuser())


@pytest.fixture
async def shell(access: SshAccess):
    async with connected(access) as opened:
        yield opened


@contextlib.asynccontextmanager
async def connected(access: SshAccess) -> AsyncIterator[SshShell]:
    opened = await SHELLS.connect(access.target)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def connect(access: SshAccess):
    """Opens further connections to that server."""
    return lambda: connected(access)
