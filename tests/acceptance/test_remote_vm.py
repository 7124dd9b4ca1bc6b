"""What clients do in a running VM: exec, forward, files, by the API and by the command; one VM for all tests."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from magpie_local import Magpie, config
from magpie_local.errors import SshLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

#: Sends back what it was sent once its peer has ended, or, asked with a "-" first, ends before that and notes how much
#: still came.
ECHO = """
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        first = self.rfile.read(1)
        if first == b"-":
            self.connection.shutdown(1)
            open("/tmp/came", "w").write(str(len(self.rfile.read())))
        else:
            self.wfile.write(first + self.rfile.read())
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 100
server = Server(("127.0.0.1", 7001), Echo)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def client(shared_vm_home: Path, image_folder: Path) -> Iterator[Magpie]:
    settings = config.load(home=shared_vm_home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        client.templates.warm("base", 1, 256)
        yield client


@pytest.fixture(scope="module")
def job(client: Magpie) -> Job:
    """A VM with a service on its loopback; it is shared, so tests leave it as they found it."""
    script = 'python3 -c "$ECHO" >/tmp/ready 2>&1 & until grep -q ready /tmp/ready; do sleep 0.05; done'
    job = client.jobs.create("vm", script, memory_mb=256, persistent=True, env={"ECHO": ECHO})
    return client.jobs.wait(job.id, timeout=120)


@pytest.fixture
def magpie(client: Magpie, image_folder: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the command as a user's, on the same state directory."""
    environment = {
        **os.environ, "MAGPIE_HOME": str(client.settings.home), "MAGPIE_IMAGES": str(image_folder),
        "MAGPIE_KEEPER": "false", "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }  # fmt: skip

    def start(*words: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "magpie_local.cli", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)

    return start


def ask(address: tuple[str, int], data: bytes) -> bytes:
    """Send data, end that direction, and return what comes back."""
    with socket.create_connection(address, 60) as peer, peer.makefile("rb") as answer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        return answer.read()


def test_a_forward_carries_many_connections_and_halves_of_them(client: Magpie, job: Job) -> None:
    data = [os.urandom(20_000).replace(b"-", b"+") for _ in range(50)]
    with client.jobs.forward(job.id, 7001) as bound, ThreadPoolExecutor(50) as pool:
        address = bound.host, bound.port
        assert bound.host == "127.0.0.1"
        assert list(pool.map(lambda one: ask(address, one), data)) == data

        with socket.create_connection(address, 60) as peer:
            peer.sendall(b"-")
            assert peer.recv(1) == b""  # it has ended its direction, and reads on
            peer.sendall(bytes(300_000))
        came = "until [ -s /tmp/came ]; do sleep 0.05; done; cat /tmp/came; rm -f /tmp/came"
        assert client.jobs.exec(job.id, f"sudo sh -c '{came}'", timeout=60).stdout == "300000"
    with pytest.raises(ConnectionRefusedError):
        ask(address, b"x")


def test_a_port_without_a_service_closes_the_connection(client: Magpie, job: Job) -> None:
    with client.jobs.forward(job.id, 7002) as bound, pytest.raises(ConnectionResetError):
        ask((bound.host, bound.port), b"x")


def test_a_forward_outlives_a_pause_of_the_vm(client: Magpie, job: Job) -> None:
    runtime = client.jobs._runtime
    ports = runtime._engine.ports
    (vm,) = runtime.call(ports.hypervisor.sights())
    with client.jobs.forward(job.id, 7001) as bound, ThreadPoolExecutor(2) as pool:
        address = bound.host, bound.port
        assert ask(address, b"before") == b"before"
        with socket.create_connection(address, 60) as open_before:
            open_before.sendall(b"old")
            runtime.call(ports.vms.pause(vm.id))
            meanwhile = pool.submit(ask, address, b"new")
            exec_meanwhile = pool.submit(client.jobs.exec, job.id, "echo awake")
            runtime.call(ports.vms.resume(vm.id))
            assert meanwhile.result(60) == b"new"
            assert exec_meanwhile.result(60).stdout == "awake\n"
            open_before.shutdown(socket.SHUT_WR)
            assert open_before.recv(9) == b"old"
        assert ask(address, b"after") == b"after"


def test_a_forward_and_exec_work_again_when_every_sshd_was_killed(client: Magpie, job: Job) -> None:
    with client.jobs.forward(job.id, 7001) as bound:
        address = bound.host, bound.port
        assert ask(address, b"before") == b"before"
        with pytest.raises(SshLost):
            client.jobs.exec(job.id, "sudo pkill -9 -x sshd; sleep 60")
        assert ask(address, b"after") == b"after"
    assert client.jobs.exec(job.id, "echo back").stdout == "back\n"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_forward_of_the_command_ends_with_it(
    job: Job, magpie: Callable[..., subprocess.Popen[bytes]], end: signal.Signals
) -> None:
    with magpie("forward", job.id, "7001") as running:
        host, port = said(running.stdout).decode().split(":")
        address = host, int(port)
        assert ask(address, b"x") == b"x"
        running.send_signal(end)
        assert running.wait(30) == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        ask(address, b"x")


def test_twenty_commands_at_once_each_end_in_their_own_way(client: Magpie, job: Job) -> None:
    together = threading.Barrier(20)

    def one(number: int) -> tuple[int | None, str, str]:
        together.wait(60)
        done = client.jobs.exec(job.id, f"echo {number}; echo e{number} >&2; exit {number}")
        return done.exit_code, done.stdout, done.stderr

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [(number, f"{number}\n", f"e{number}\n") for number in range(20)]


def test_a_command_takes_and_gives_ten_megabytes(client: Magpie, job: Job) -> None:
    data = os.urandom(10 << 20)
    done = client.jobs.exec(job.id, ["tee", "/dev/null"], stdin=data)
    assert hashlib.sha256(done.stdout_bytes).digest() == hashlib.sha256(data).digest()
    assert (done.exit_code, done.truncated, done.stderr) == (0, False, "")


def test_a_timeout_kills_all_that_a_command_has_started(
    client: Magpie, job: Job, magpie: Callable[..., subprocess.Popen[bytes]]
) -> None:
    late = client.jobs.exec(job.id, "echo early; sleep 555 & (trap '' TERM; sleep 555; sleep 555)", timeout=2)
    assert (late.timed_out, late.success, late.stdout) == (True, False, "early\n")
    with magpie("exec", job.id, "--timeout", "2s", "--", "sh", "-c", "sudo sleep 555 & sleep 555") as running:
        assert running.wait(60) == 124
    assert client.jobs.exec(job.id, "pgrep -fc 'sleep 55[5]'").stdout == "0\n"


def test_the_command_passes_streams_and_the_exit_code_on(
    job: Job, magpie: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with magpie("exec", job.id, "--stdin", "--", "sh", "-c", "cat; echo trouble >&2; exit 7") as running:
        assert running.communicate(b"through", 60) == (b"through", b"trouble\n")
        assert running.returncode == 7


def test_the_command_copies_folders_both_ways_whatever_their_names(
    job: Job, magpie: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "read only").mkdir()
    for name in ("-rf", "a:b", "with 'quotes' $(id) and\nlines", ".hidden", "ü", os.fsdecode(b"no utf-8 \xff")):
        (tree / "read only" / name).write_text(name, errors="surrogateescape")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o754)
    (tree / "read only").chmod(0o555)
    (tree / "link").symlink_to("/etc/shadow")

    for source, destination in ((tree, f"{job.id}:tree $x"), (f"{job.id}:tree $x", tmp_path / "back")):
        with magpie("cp", source, destination) as running:
            _, told = running.communicate(timeout=60)
        assert running.returncode == 0, told
        assert (b"left out: link" in told) == (source is tree)

    (tree / "link").unlink()
    assert listed(tmp_path / "back") == listed(tree)
    with magpie("cp", tree, f"{job.id}:tree $x") as running:
        assert b"in the way" in running.communicate(timeout=60)[1]
        assert running.returncode != 0


def test_a_job_is_given_files_and_hands_over_what_it_made(client: Magpie, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "empty").mkdir(parents=True)
    (source / "run.py").write_text("print('from a folder')\n")
    (source / "run.py").chmod(0o700)
    (tmp_path / "data.csv").write_bytes(os.urandom(2_000_000))
    script = (
        "set -e; mkdir -p results/deep; ./run.sh > results/said; python3 code/run.py >> results/said\n"
        "stat -c '%a %n' run.sh code/run.py code/empty > results/modes; cp data.csv results/deep/\n"
        "chmod 750 results/said; ln -s /etc/passwd results/link; echo p > a.png; echo no > a.txt"
    )
    uploads = {
        "data.csv": tmp_path / "data.csv", "code": source, "run.sh": (b"#!/bin/sh\necho from bytes\n", 0o755),
        "/opt/there": b"absolute",
    }  # fmt: skip
    job = client.jobs.run_and_wait(
        "files", script + "; cat /opt/there", memory_mb=256, uploads=uploads, outputs=["results/**", "*.png", "none*"]
    )
    assert (job.status, client.jobs.get_logs(job.id)) == ("completed", "absolute")

    outputs = client.jobs.outputs(job.id)
    assert [one.path for one in outputs.list()] == ["a.png", "results/deep/data.csv", "results/modes", "results/said"]
    assert outputs.read("results/said") == b"from bytes\nfrom a folder\n"
    assert outputs.read("results/modes") == b"755 run.sh\n700 code/run.py\n755 code/empty\n"
    outputs.download(tmp_path / "got")
    assert (tmp_path / "got/results/deep/data.csv").read_bytes() == (tmp_path / "data.csv").read_bytes()
    assert (tmp_path / "got/results/said").stat().st_mode & 0o777 == 0o750
    story = [str(dict(event.detail)) for event in client.jobs.story(job.id)]
    assert any("none*" in note for note in story), story
    assert any("results/link" in note for note in story), story


def test_a_job_that_fails_hands_over_what_it_made_all_the_same(client: Magpie) -> None:
    job = client.jobs.run_and_wait("failing", "echo why > report; exit 3", memory_mb=256, outputs=["report"])
    assert (job.status, job.exit_code) == ("failed", 3)
    assert client.jobs.outputs(job.id).read("report") == b"why\n"


def said(stream: IO[bytes] | None) -> bytes:
    """Return the next line."""
    assert stream is not None
    return stream.readline().strip()


def listed(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is in a folder."""
    return {
        str(path.relative_to(top)): (path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in top.rglob("*")
    }
