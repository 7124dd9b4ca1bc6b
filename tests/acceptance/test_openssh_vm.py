"""OpenSSH's own programs and a persistent VM: one VM for all tests, without a network, and no process of ours alive."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from magpie_local import Magpie, config
from magpie_local.errors import HostKeyMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed (openssh-client)"),
]

#: Makes the VM, says how it is reached, and waits to be killed.
OWNER = """
import json, sys, time
from magpie_local import Magpie, config
home, images = sys.argv[1:]
client = Magpie(settings=config.load(home=home, images=images, keeper=False))
job = client.jobs.create("vm", "echo ready", memory_mb=256, persistent=True, network="none")
door = client.jobs.ssh(job.id, timeout=120)
print(json.dumps([job.id, door.command, door.config, door.alias, door.port]), flush=True)
time.sleep(600)
"""
#: Greets whoever connects; tells the port once it listens.
GREETER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept()
    peer.sendall(b"hello from the VM")
    peer.close()
"""


@dataclass
class Door:
    """How the VM is reached, by a client's own words."""

    job_id: str
    command: str
    config: str
    alias: str
    port: int

    def run(self, line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a line in the VM, by the command that one would paste into a terminal."""
        return self.shell(f"{self.command} {line}", stdin)

    def shell(self, line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a line of this machine's shell; $CONFIG and $VM stand for the configuration and the VM in it."""
        environment = {**os.environ, "CONFIG": self.config, "VM": self.alias}
        return subprocess.run(
            ["sh", "-c", line], input=stdin, capture_output=True, text=True, timeout=120, check=False, env=environment
        )

    @contextlib.contextmanager
    def session(self, *command: str, options: tuple[str, ...] = ()) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Keep a command running in the VM; gives its input and its output."""
        argv = ["ssh", "-F", self.config, *options, self.alias, *command]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            try:
                yield running.stdin, running.stdout
            finally:
                running.kill()


@pytest.fixture(scope="module")
def own_files() -> Callable[[], dict[str, int]]:
    """What the user has in ~/.ssh, wherever a program may think that is."""
    homes = {Path(pwd.getpwuid(os.geteuid()).pw_dir), Path.home()}

    def look() -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for home in homes for path in (home / ".ssh").rglob("*")}

    return look


@pytest.fixture(scope="module")
def door(
    shared_vm_home: Path, image_folder: Path, own_files: Callable[[], dict[str, int]], qemus: Callable[..., list[int]]
) -> Iterator[Door]:
    """A VM whose owners are all dead."""
    before = own_files()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, shared_vm_home, image_folder], stdout=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    with owner:
        assert owner.stdout is not None
        said = owner.stdout.readline()
        os.killpg(owner.pid, signal.SIGKILL)
    assert len(qemus(shared_vm_home)) == 1
    yield Door(*json.loads(said))
    assert own_files() == before


def test_the_command_works_when_pasted(door: Door) -> None:
    said = door.run("'cat; echo trouble >&2; id -un; sudo id -un; exit 7'", stdin="through\n")
    assert (said.returncode, said.stdout, said.stderr) == (7, "through\nmagpie\nroot\n", "trouble\n")
    assert door.run("-tt tty").stdout.startswith("/dev/pts/")


def test_the_vm_has_no_network_but_the_way_in(door: Door) -> None:
    assert door.run("ip route").stdout.split()[:3] == ["169.254.77.0/24", "dev", "eth1"]
    assert door.run("'ip -6 route show default; ip -br addr show up scope global'").stdout.split()[:1] in ([], ["eth1"])
    assert f"0100007F:{door.port:04X}" in Path("/proc/net/tcp").read_text()


def test_scp_copies_both_ways(door: Door, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    for old in ("", "-O"):  # over SFTP, and by the protocol of earlier versions
        there = door.shell(
            f"scp {old} -rpq -F $CONFIG {tree} $VM:scp{old} && scp {old} -rpq -F $CONFIG $VM:scp{old} {tmp_path}"
        )
        assert there.returncode == 0, there.stderr
        assert listed(tmp_path / f"scp{old}") == listed(tree)


def test_sftp_puts_lists_and_gets(door: Door, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    batch = f"mkdir sftp\ncd sftp\nput -rp {tree}\nls -1 tree\nget -rp tree {tmp_path}/back\n"
    said = door.shell("sftp -q -F $CONFIG -b - $VM", batch)
    assert said.returncode == 0, said.stderr
    assert "tree/run.sh" in said.stdout.split("\n")
    assert listed(tmp_path / "back") == listed(tree)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_takes_ssh_as_its_shell(door: Door, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    rsync = 'rsync -a -e "ssh -F $CONFIG"'
    said = door.shell(f"{rsync} {tree}/ $VM:rsync && {rsync} $VM:rsync/ {tmp_path}/back")
    assert said.returncode == 0, said.stderr
    assert listed(tmp_path / "back") == listed(tree)
    (tree / "run.sh").unlink()
    assert door.shell(f"{rsync} --delete {tree}/ $VM:rsync").returncode == 0
    assert door.run("ls rsync").stdout.split() == ["below", "empty"]


def test_ports_are_forwarded_in_all_three_ways(door: Door) -> None:
    local, proxy = free_port(), free_port()
    with greeter() as here, door.session("python3", "-c", f"'{GREETER}'") as (_, out):
        there = int(out.readline())
        forwards = ("-L", f"127.0.0.1:{local}:127.0.0.1:{there}", "-D", f"127.0.0.1:{proxy}")
        options = ("-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:7999:127.0.0.1:{here}", *forwards)
        with door.session("cat", options=options) as (_, __):
            assert fetched(local) == b"hello from the VM"
            socks = b"\x04\x01" + there.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"
            answer = fetched(proxy, socks)
            assert (answer[:2], answer[8:]) == (b"\x00\x5a", b"hello from the VM")
            assert door.run("python3 -", connect_to(7999)).stdout == "hello from here"


def test_a_vm_whose_host_key_has_changed_is_refused_by_everybody(
    door: Door, shared_vm_home: Path, image_folder: Path
) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    with door.session("sudo", "sh") as (tell, out):

        def do(*lines: str) -> None:
            """Have the session, which is in already, do as root as it is told."""
            tell.write("\n".join([*lines, "echo done", ""]).encode())
            tell.flush()
            while (line := out.readline()) != b"done\n":
                assert line, "the session has ended"

        # The listener is started anew, with the key that it finds then; whoever is in stays in.
        anew = (
            "now() { pgrep -x -f 'sshd: .*listener.*'; }; old=$(now); kill $old;"
            'while [ -z "$(now)" ] || [ "$(now)" = "$old" ]; do sleep 0.1; done;'
            "until ss -Hlnt | grep -q ':22 '; do sleep 0.1; done"
        )
        do(f"cp -p {key} {key}.true", f"rm {key}", f"ssh-keygen -q -t ed25519 -N '' -f {key}", anew)

        refused = door.run("id")
        assert (refused.returncode, refused.stdout) == (255, "")
        assert "Host key verification failed" in refused.stderr
        with Magpie(settings=config.load(home=shared_vm_home, images=image_folder, keeper=False)) as client:
            with pytest.raises(HostKeyMismatch, match="has another key than the job's VM"):
                client.jobs.exec(door.job_id, "true")
            with pytest.raises(HostKeyMismatch):
                client.jobs.files(door.job_id).write("secret", "for this VM only")

            do(f"mv {key}.true {key}", anew)
            assert client.jobs.exec(door.job_id, ["ls", "secret"]).exit_code == 2
    assert door.run("id -un").stdout == "magpie\n"


def make_tree(top: Path) -> Path:
    """Make a folder with what a copy should keep."""
    (top / "below").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "below" / "a 'b' ü").write_bytes(os.urandom(100_000))
    (top / "below").chmod(0o700)
    return top


def listed(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is in a folder."""
    return {
        str(path.relative_to(top)): (path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in top.rglob("*")
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def greeter() -> Iterator[int]:
    """Greet whoever connects to a port of this machine's loopback."""

    def greet(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer:
                    peer.sendall(b"hello from here")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def connect_to(port: int) -> str:
    """Return a program that prints what a port of its own loopback says."""
    return f"import socket\nprint(end=socket.create_connection(('127.0.0.1', {port})).recv(99).decode())"


def fetched(port: int, before: bytes = b"") -> bytes:
    """Return all that a port says, once somebody listens there."""
    give_up = time.monotonic() + 60
    while True:
        try:
            peer = socket.create_connection(("127.0.0.1", port), 10)
        except ConnectionRefusedError:
            assert time.monotonic() < give_up
            time.sleep(0.05)
            continue
        with peer, peer.makefile("rb") as answer:
            peer.settimeout(60)
            peer.sendall(before)
            return answer.read()
