"""Named networks on real VMs: who reaches whom, and by which names (E13 to E16)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from magpie_local import Magpie, config
from magpie_local.errors import LeaseTaken, NetworkInUse, NetworkTaken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from magpie_local import Job

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

SERVE = "cd /tmp; echo served > page; (python3 -m http.server 8000 --bind :: >/dev/null 2>&1 &)"


@pytest.fixture(scope="module")
def client(shared_vm_home: Path, image_folder: Path) -> Iterator[Magpie]:
    settings = config.load(home=shared_vm_home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        client.templates.warm("base", 1, 256)
        client.networks.create("lab", "10.77.0.0/24")
        client.networks.create("other", "10.78.0.0/24")
        yield client


@pytest.fixture(scope="module")
def server(client: Magpie) -> Job:
    job = client.jobs.create("Data Base", SERVE, memory_mb=256, persistent=True, network="lab", ipv6_lease="db")
    client.jobs.wait(job.id, timeout=120)
    client.jobs.exec(job.id, "until curl -s localhost:8000/page; do sleep 0.2; done", timeout=60)
    return client.jobs.get(job.id)


def fetched(client: Magpie, network: str, *hosts: str) -> list[str]:
    script = "".join(f"curl -s -m 5 'http://{host}:8000/page' || echo unreachable\n" for host in hosts)
    job = client.jobs.run_and_wait("client", script, memory_mb=256, network=network)
    return client.jobs.get_logs(job.id).split()


def test_a_peer_is_reached_by_address_and_by_its_jobs_name(client: Magpie, server: Job) -> None:
    hosts = ("data-base", str(server.address), f"[{server.address6}]")
    assert fetched(client, "lab", *hosts) == ["served"] * 3


def test_its_durable_address_is_reached_through_a_forward(client: Magpie, server: Job) -> None:
    with client.jobs.forward(server.id, 8000, guest_host=str(server.address6)) as bound:
        assert urlopen(f"http://{bound.host}:{bound.port}/page", timeout=30).read() == b"served\n"


@pytest.mark.parametrize("network", ["other", "none"])
def test_nobody_else_reaches_it(client: Magpie, server: Job, network: str) -> None:
    hosts = ("data-base", str(server.address), f"[{server.address6}]")
    assert fetched(client, network, *hosts) == ["unreachable"] * 3


def test_a_member_reaches_nobody_outside(client: Magpie, server: Job) -> None:
    outside = client.jobs.create("out", SERVE, memory_mb=256, persistent=True, network="other")
    client.jobs.wait(outside.id, timeout=120)
    address = client.jobs.get(outside.id).address
    tried = client.jobs.exec(server.id, f"curl -s -m 5 http://{address}:8000/page", timeout=60)
    assert tried.exit_code != 0
    client.jobs.stop(outside.id)


def test_a_running_guest_learns_the_name_of_a_peer_that_comes_later(client: Magpie, server: Job) -> None:
    late = client.jobs.create("late comer", "sleep 60", memory_mb=256, network="lab")
    known = client.jobs.exec(server.id, "until getent hosts late-comer; do sleep 0.2; done", timeout=60)
    assert {"late-comer"} < {*known.stdout.split()}
    client.jobs.delete(late.id, force=True)


def test_a_lease_is_one_jobs_at_a_time_and_the_same_address_again(client: Magpie) -> None:
    script = "ip -6 addr show eth0; sleep 60"
    first = client.jobs.create("first", script, memory_mb=256, network="lab", ipv6_lease="mine")
    with pytest.raises(LeaseTaken, match=first.id):
        client.jobs.create("second", "true", network="lab", ipv6_lease="mine")
    client.jobs.delete(first.id, force=True)
    again = client.jobs.run_and_wait("again", "ip -6 addr show eth0", memory_mb=256, network="lab", ipv6_lease="mine")
    assert again.address6 == first.address6
    assert str(first.address6) in client.jobs.get_logs(again.id)


def test_what_is_in_use_or_taken_is_refused(client: Magpie, server: Job) -> None:
    with pytest.raises(NetworkInUse):
        client.networks.remove("lab")
    with pytest.raises(NetworkTaken, match=r"10\.77\.0\.0/24"):
        client.networks.create("overlap", "10.77.0.128/25")
    with pytest.raises(NetworkTaken):
        client.networks.create("lab", "10.99.0.0/24")
