"""Jobs on the default network, in namespaces that stand for this machine and the rest of the world."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local import Job

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

#: Says which of its arguments answer at port 80, and how fast the others fail.
LOOK = """
cat >/tmp/look.py <<'END'
import socket, sys, time
for address in sys.argv[1:]:
    began = time.monotonic()
    try:
        with socket.create_connection((address, 80), 4) as connection:
            connection.settimeout(20)
            print(address if connection.recv(1) else "closed", flush=True)
    except OSError as error:
        print("at once" if time.monotonic() - began < 1 else "late", type(error).__name__, file=sys.stderr)
END
python3 /tmp/look.py """
THERE = ("203.0.113.7", "2001:db8:2::7")
#: This machine by its names and addresses, its neighbour, and what a guest could take for its host.
NEIGHBOUR = "198.51.100.1"
HERE = (
    "127.0.0.1", "::1", "198.51.100.10", "2001:db8:1::10", "::ffff:198.51.100.10", NEIGHBOUR, "10.0.2.2", "10.0.2.3",
    "fd6d:6167:7069::2",
)  # fmt: skip
SHAPE: Any = {"vcpus": 1, "memory_mb": 256}


@pytest.fixture
def connect(world, image_folder: Path) -> Iterator[Callable[..., Magpie]]:
    """Make clients in `here`: their threads, gates and VMs are there, since the world came first."""
    clients: list[Magpie] = []
    with tempfile.TemporaryDirectory(prefix="mgd") as home:

        def make(**settings: Any) -> Magpie:
            chosen: Any = {"images": image_folder, "keeper": False, "templates": "4 GiB", "pool": 0} | settings
            clients.append(Magpie(settings=config.load(home=Path(home), **chosen)))
            return clients[-1]

        yield make
        for client in clients:
            for job in client.jobs.list():
                client.jobs.delete(job.id, force=True)
            client.close()


def looks(client: Magpie, *addresses: str, **options: Any) -> tuple[Job, list[str]]:
    """Return a job, and which addresses answered it."""
    job = client.jobs.run_and_wait("look", LOOK + " ".join(addresses), **SHAPE, **options)
    return job, [chunk.text.strip() for chunk in client.jobs.stream_logs(job.id) if chunk.stream == "stdout"]


def found(lines: list[str]) -> set[str]:
    return {line for text in lines for line in text.splitlines()}


def wait_for_pool(client: Magpie) -> None:
    give_up = time.monotonic() + 120
    time.sleep(0.6)  # the report's age
    while not sum(client.monitoring.pool().waiting.values()):
        assert time.monotonic() < give_up, client.monitoring.pool()
        time.sleep(0.1)


def test_every_kind_of_start_leads_out_and_not_to_this_machine(world, connect):
    client = connect(pool=1)
    client.templates.warm("base", **SHAPE)
    wait_for_pool(client)
    assert world.holds_a_gate(), "the gate is in another namespace: nothing may be sent through it"

    job, answered = looks(client, *THERE, *HERE)
    assert (job.start, job.network, found(answered)) == ("pool", "default", set(THERE))

    wait_for_pool(client)
    job, answered = looks(client, *THERE, "127.0.0.1", network="none")
    assert (job.start, answered) == ("pool", [])
    errors = [chunk.text for chunk in client.jobs.stream_logs(job.id) if chunk.stream == "stderr"]
    assert "late" not in "".join(errors), "without a network nothing should be waited for"

    client.networks.create("lab", "10.77.0.0/24")
    wait_for_pool(client)
    job, answered = looks(client, *THERE, NEIGHBOUR, network="lab")
    assert (job.start, answered) == ("pool", [])

    job, answered = looks(client, *THERE, *HERE, isolation="private")
    assert (job.start, found(answered)) == ("cold", set(THERE))


def test_nothing_of_ours_listens_beyond_loopback(world, connect):
    before = listeners()
    client = connect()
    client.networks.create("lab", "10.77.0.0/24")
    jobs = [
        client.jobs.create("stay", "true", persistent=True, network=network, **SHAPE) for network in ("default", "lab")
    ]
    for job in jobs:
        client.jobs.wait(job.id)
        client.jobs.exec(job.id, "python3 -m http.server 8000 >/dev/null 2>&1 &")
    with client.jobs.forward(jobs[0].id, 8000):
        new = listeners() - before
        assert len(new) == 3
        assert {address for address, _ in new} == {"0100007F"}


def test_proxies_and_authorities_of_this_machine_are_shared_where_that_is_asked(world, connect, monkeypatch, tmp_path):
    authority = "-----BEGIN CERTIFICATE-----\nbm90IHJlYWxseQ==\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("https_proxy", f"http://me:pass-word@{NEIGHBOUR}:80")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:80")
    client = connect(share_proxies=True)
    script = 'echo "$https_proxy ${http_proxy-none}"; grep -c bm90IHJlYWxseQ== "$SSL_CERT_FILE"; '
    job = client.jobs.run_and_wait("look", script + LOOK + f"{NEIGHBOUR} 127.0.0.1", **SHAPE)
    output = [chunk.text for chunk in client.jobs.stream_logs(job.id) if chunk.stream == "stdout"]
    assert "".join(output).split() == [f"http://me:***@{NEIGHBOUR}:80", "none", "1", NEIGHBOUR]
    assert b"pass-word" not in b"".join(path.read_bytes() for path in Path(client.settings.home).rglob("magpie.db*"))
    plain = client.jobs.run_and_wait("look", LOOK + NEIGHBOUR, network="none", **SHAPE)
    assert NEIGHBOUR not in client.jobs.get_logs(plain.id)


def test_without_passt_a_job_says_what_to_install_and_starts_no_vm(world, connect, monkeypatch):
    client = connect()
    client.jobs.run_and_wait("here", "true", network="none", **SHAPE)
    monkeypatch.setenv("PATH", os.fspath(Path(__file__).parent))
    job = client.jobs.run_and_wait("look", "true", **SHAPE)
    assert (job.status, job.reason) == ("failed", "start_failed")
    assert "apt-get install passt" in str(job.message)
    assert not [event for event in client.jobs.story(job.id) if event.kind.startswith("vm")]


def listeners() -> set[tuple[str, str]]:
    """Return the address and port of every TCP listener of this namespace, as the kernel writes them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                found.add((local.partition(":")[0], local.partition(":")[2]))
    return found
