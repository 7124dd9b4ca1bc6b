"""SSH to a VM: python -m benchmarks.ssh [--json FILE] [--size MIB] [--port PORT --host-key LINE --key FILE].

Without a port, an OpenSSH server of this machine is started for the run. OpenSSH's own client, through one master
connection, is the reference for commands, scp the one for files; both go to the same port in the same run, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Figure, number, report, times
from magpie_local.domain.sizes import MIB
from magpie_local.guest.ssh.access import SshFiles
from magpie_local.guest.ssh.opener import SshShells

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from magpie_local.guest.ssh.access import SshAccess
    from magpie_local.guest.ssh.shell import SshShell

COMMANDS = 50
AT_ONCE = 30
COPIES = 5
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
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
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Place:
    """The server, and a folder on each side."""

    access: SshAccess
    here: Path
    there: str
    #: Bytes of the file that is copied.
    size: int


def main() -> None:
    """Run all parts and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.ssh")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--port", type=int, help="measure the server at this port of 127.0.0.1")
    parser.add_argument("--host-key", help="its public key, one line")
    parser.add_argument("--user", default="magpie", help="whom to log in as")
    parser.add_argument("--key", type=Path, help="the private key that lets in")
    parser.add_argument("--size", type=int, default=256, help="size of the file that is copied, MiB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="magpie-bench-") as name:
        folder = Path(name)
        with server(folder) if arguments.port is None else given(folder, arguments) as access:
            place = Place(access, folder, f"/tmp/{folder.name}", arguments.size * MIB)
            figures = asyncio.run(measure(place))
    where = "an OpenSSH server of this machine" if arguments.port is None else f"the server at port {arguments.port}"
    report(f"SSH to {where}", figures, json_file=arguments.json)


async def measure(place: Place) -> list[Figure]:
    """Return all figures."""
    connecting = [await timed(lambda: connect_once(place.access)) for _ in range(5)]
    shell = await SshShells().connect(place.access.target)
    try:
        await shell.run(["mkdir", "-p", place.there])
        figures = [times("connect and log in", connecting[1:]), *await commands(place, shell)]
        figures += await copies(place, shell)
        await shell.run(["rm", "-rf", place.there])
    finally:
        await shell.close()
    return figures


async def commands(place: Place, shell: SshShell) -> list[Figure]:
    """Return what a command costs on a live connection."""
    ours, theirs = [], []
    async with master(place) as ssh:
        for _ in range(COMMANDS):
            ours.append(await timed(lambda: shell.run("true")))
            theirs.append(await timed(lambda: run(*ssh, "true")))
    at_once = [await timed(lambda: thirty(shell)) for _ in range(5)]
    ratio = statistics.median(ours) / statistics.median(theirs)
    return [
        times("run `true`", ours),
        times("reference: ssh with ControlMaster", theirs),
        number("ratio", ratio, "", goal="<= 1.5"),
        times(f"{AT_ONCE} at once", at_once),
    ]


async def copies(place: Place, shell: SshShell) -> list[Figure]:
    """Return how fast a large file is copied, in both directions."""
    (place.here / "file").write_bytes(os.urandom(place.size))
    scp, host = place.access.argv("scp")[:-1], place.access.alias
    files, there = shell.files, place.there
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "upload": lambda: files.upload(place.here / "file", f"{there}/ours", replace=True),
        "upload, scp": lambda: run(*scp, place.here / "file", f"{host}:{there}/theirs"),
        "download": lambda: files.download(f"{there}/ours", place.here / "ours", replace=True),
        "download, scp": lambda: run(*scp, f"{host}:{there}/ours", place.here / "theirs"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(COPIES):
        for name, way in ways.items():
            rates[name].append(place.size / MIB / await timed(way))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    figures = []
    for name in ("upload", "download"):
        figures += [
            number(name, middle[name], "MiB/s"),
            number(f"reference: {name}, scp", middle[f"{name}, scp"], "MiB/s"),
            number("ratio", middle[name] / middle[f"{name}, scp"], "", goal=">= 0.8"),
        ]
    return figures


@contextlib.asynccontextmanager
async def master(place: Place) -> AsyncIterator[list[str]]:
    """Keep a master connection open; give the command that goes through it."""
    ssh = [*place.access.argv()[:-1], "-o", f"ControlPath={place.here}/master"]
    await run(*ssh, "-o", "ControlMaster=yes", "-N", "-f", place.access.alias)
    try:
        yield [*ssh, place.access.alias]
    finally:
        await run(*ssh, "-O", "exit", place.access.alias)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[SshAccess]:
    """Run an OpenSSH server of this machine."""
    if SSHD is None:
        raise SystemExit("OpenSSH's server is not installed (package openssh-server); or name another with --port.")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it refuses to start without
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / "host_key"], check=True)
    files = SshFiles(folder / "access")
    (folder / "authorized_keys").write_text(files.prepare())
    port = free_port()
    (folder / "sshd_config").write_text(CONFIGURATION.format(port=port, folder=folder))
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    with subprocess.Popen([SSHD, "-D", "-f", folder / "sshd_config"]) as sshd:
        try:
            yield files.write("benchmark", port=port, host_key=host_key, username=getpass.getuser())
        finally:
            sshd.terminate()


@contextlib.contextmanager
def given(folder: Path, arguments: argparse.Namespace) -> Iterator[SshAccess]:
    """Use a server that runs already."""
    files = SshFiles(folder / "access")
    files.prepare()
    if arguments.key is not None:
        shutil.copyfile(arguments.key, folder / "access" / "key")
    host_key = " ".join((arguments.host_key or "").split()[:2])
    yield files.write("benchmark", port=arguments.port, host_key=host_key, username=arguments.user)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def connect_once(access: SshAccess) -> None:
    """Connect and leave."""
    shell = await SshShells().connect(access.target)
    await shell.close()


async def thirty(shell: SshShell) -> None:
    """Run many commands at once."""
    await asyncio.gather(*(shell.run("true") for _ in range(AT_ONCE)))


async def run(*command: str | Path) -> None:
    """Run a program of this machine to its end, which must be a good one."""
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if await process.wait():
        raise SystemExit(f"{command[0]} failed with {process.returncode}")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long `work` takes, seconds."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
