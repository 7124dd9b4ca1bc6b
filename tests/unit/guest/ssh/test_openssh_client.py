"""OpenSSH's own programs with the configuration that is written for them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.guest.ssh.access import SshAccess


def run(*command: object, env: dict[str, str] | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(part) for part in command], capture_output=True, input=stdin, timeout=30, env=env)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def greeter() -> Iterator[int]:
    """A service on this machine's loopback that greets whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        peer.sendall(b"hello")

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tunnel(access: SshAccess, *options: str) -> Iterator[None]:
    """A client that only forwards."""
    command = [*access.argv(), "-N", "-o", "ExitOnForwardFailure=yes", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
        try:
            yield
        finally:
            client.terminate()


def fetch(port: int, before: bytes = b"") -> bytes:
    """Return what a service says, once it listens; `before` is a SOCKS request to send first."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
                peer.sendall(before)
                return b"".join(iter(lambda: peer.recv(4096), b""))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_command_works_when_pasted_into_a_shell(access, tmp_path):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    ended = run("sh", "-c", f"{access.command} 'echo $((6*7)); exit 5'", env=env)

    assert (ended.returncode, ended.stdout, ended.stderr) == (5, b"42\n", b"")
    assert shlex.split(access.command) == access.argv()


def test_scp_copies_both_ways(access, tmp_path):
    (tmp_path / "up").write_bytes(os.urandom(100_000))
    scp = access.argv("scp")[:-1]

    assert run(*scp, tmp_path / "up", f"{access.alias}:{tmp_path}/there").returncode == 0
    assert run(*scp, f"{access.alias}:{tmp_path}/there", tmp_path / "back").returncode == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "up").read_bytes()


def test_sftp_puts_and_gets(access, tmp_path):
    (tmp_path / "up").write_bytes(b"content")
    batch = f"put {tmp_path}/up {tmp_path}/there\nget {tmp_path}/there {tmp_path}/back\n".encode()

    ended = run(*access.argv("sftp")[:-1], "-b", "-", access.alias, stdin=batch)

    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "back").read_bytes() == b"content"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_takes_the_command_as_its_shell(access, tmp_path):
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "file").write_bytes(b"content")
    # rsync splits the shell's command at blanks and knows quotes, but doubles stand for one: no backslashes.
    config = str(access.config).replace("'", "''")

    ended = run("rsync", "-a", "-e", f"ssh -F '{config}'", f"{tmp_path}/tree/", f"{access.alias}:{tmp_path}/copy")

    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "copy" / "below" / "file").read_bytes() == b"content"


def test_a_local_port_leads_to_a_service_there(access):
    port = free_port()
    with greeter() as there, tunnel(access, "-L", f"127.0.0.1:{port}:127.0.0.1:{there}"):
        assert fetch(port) == b"hello"


def test_a_remote_port_leads_to_a_service_here(access):
    port = free_port()
    with greeter() as here, tunnel(access, "-R", f"127.0.0.1:{port}:127.0.0.1:{here}"):
        assert fetch(port) == b"hello"


def test_a_socks_proxy_leads_to_any_service_there(access):
    port = free_port()
    with greeter() as there, tunnel(access, "-D", f"127.0.0.1:{port}"):
        request = b"\x04\x01" + there.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"
        answer = fetch(port, request)
    assert answer[:2] == b"\x00\x5a"
    assert answer[8:] == b"hello"


def test_another_host_key_is_refused(sshd, access):
    known = access.config.parent / "known_hosts"
    known.write_text(known.read_text().replace(sshd.host_key, "ssh-ed25519 " + "A" * 68))

    ended = run(*access.argv(), "true")

    assert ended.returncode == 255
    assert b"erification failed" in ended.stderr


def test_the_users_own_files_are_not_written(access):
    own = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".ssh"  # where OpenSSH looks, whatever HOME says
    before = {path.name: path.stat().st_mtime_ns for path in own.glob("*")}

    assert run(*access.argv(), "true").returncode == 0
    assert {path.name: path.stat().st_mtime_ns for path in own.glob("*")} == before
