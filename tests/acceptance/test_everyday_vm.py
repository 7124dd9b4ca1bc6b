"""What people do every day, on real VMs. A run by root repeats this file as an ordinary user (tests/integration)."""

from __future__ import annotations

import shlex
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from magpie_local import Job

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

#: Serves the VM's own name; is up when the script has ended.
SERVE = """
cd /tmp && echo "$NAME" > page
(python3 -m http.server 8000 --bind :: >/dev/null 2>&1 &)
until curl -sf localhost:8000/page; do sleep 0.1; done
"""
#: Knows a word that is in its memory only, until somebody asks.
KNOW = """
read -r word </proc/sys/kernel/random/uuid
(trap 'echo "$word" >/tmp/word' USR1; while :; do sleep 0.1; done) </dev/null >/dev/null 2>&1 &
echo $! >/tmp/pid
"""
ASK = "sudo kill -USR1 $(cat /tmp/pid); until [ -s /tmp/word ]; do sleep 0.1; done; cat /tmp/word; sudo rm /tmp/word"


@pytest.fixture(scope="module")
def client(shared_vm_home: Path, image_folder: Path) -> Iterator[Magpie]:
    settings = config.load(home=shared_vm_home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        client.templates.warm("base", 1, 256)
        yield client


@pytest.fixture
def peers(client: Magpie) -> Iterator[dict[str, Job]]:
    """Three VMs, each with a server: two on one network, the third on another."""
    client.networks.create("lab", "10.77.0.0/24")
    client.networks.create("other", "10.78.0.0/24")
    places = {"anna": "lab", "berta": "lab", "carla": "other"}
    started = [
        client.jobs.create(name, SERVE, memory_mb=256, env={"NAME": name}, persistent=True, network=network)
        for name, network in places.items()
    ]
    yield {job.name: client.jobs.wait(job.id, timeout=120) for job in started}
    for job in started:
        client.jobs.delete(job.id, force=True)


def fetched(client: Magpie, source: Job, hosts: Sequence[str]) -> list[str]:
    """Return what a VM gets from the servers on `hosts`, an empty text where it reaches none."""
    tries = "; ".join(f"curl -sg -m 5 'http://{host}:8000/page' || echo" for host in hosts)
    return client.jobs.exec(source.id, tries, timeout=60).stdout.splitlines()


def ways_to(job: Job) -> list[str]:
    return [job.name, str(job.address), f"[{job.address6}]"]


def test_vms_on_one_network_reach_each_other_and_those_on_another_nobody(client: Magpie, peers: dict[str, Job]) -> None:
    anna, berta, carla = peers["anna"], peers["berta"], peers["carla"]
    for source, target in ((anna, berta), (berta, anna), (carla, carla)):
        assert fetched(client, source, ways_to(target)) == [target.name] * 3
    for source, target in ((anna, carla), (berta, carla), (carla, anna), (carla, berta)):
        assert fetched(client, source, ways_to(target)) == [""] * 3

    # Not even with an address of that network, which is root's to take in its VM.
    taken = "sudo ip addr add 10.77.0.250/24 dev eth0 && ip route get"
    assert "dev eth0" in client.jobs.exec(carla.id, f"{taken} {anna.address}").stdout
    assert fetched(client, carla, [str(anna.address)]) == [""]


def test_a_vm_that_stays_is_worked_in_by_ssh_and_its_workspace_stays_after_it(client: Magpie, tmp_path: Path) -> None:
    serve = "echo first > note; (python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &)"
    vm = client.jobs.create("dev", serve, memory_mb=256, persistent=True, stateful=True, workspace_id="my-project")
    assert client.jobs.wait(vm.id, timeout=120).status == "running"

    door = client.jobs.ssh(vm.id)
    typed = program(*shlex.split(door.command), "cat /workspace/note; echo second | sudo tee -a /workspace/note")
    assert typed == "first\nsecond\n"
    (tmp_path / "data.csv").write_text("1,2\n")
    program("scp", "-q", "-F", door.config, str(tmp_path / "data.csv"), f"{door.alias}:")
    assert client.jobs.exec(vm.id, ["cat", "data.csv"]).stdout == "1,2\n"
    with (
        client.jobs.forward(vm.id, 8000) as bound,
        urllib.request.urlopen(f"http://{bound.host}:{bound.port}/note") as answer,
    ):
        assert answer.read() == b"first\nsecond\n"

    assert client.jobs.stop(vm.id).status == "stopped"
    workspace = client.workspaces.get("my-project")
    assert (workspace.is_clean, workspace.in_use_by) == (True, None)
    after = client.jobs.run_and_wait("after", "cat note", memory_mb=256, stateful=True, workspace_id="my-project")
    assert client.jobs.get_logs(after.id) == "first\nsecond\n"


def test_a_vm_that_nobody_uses_sleeps_and_ssh_finds_it_as_it_was(client: Magpie) -> None:
    vm = client.jobs.create("dozer", KNOW, memory_mb=256, persistent=True, idle_pause=2)
    assert client.jobs.wait(vm.id, timeout=120).status == "running"
    door = client.jobs.ssh(vm.id)
    word = client.jobs.exec(vm.id, ASK).stdout
    assert len(word) == 37

    # This client is still open: its connection is not in use, and keeps nobody awake.
    give_up = time.monotonic() + 60
    while client.jobs.get(vm.id).vm_state != "asleep":
        assert time.monotonic() < give_up, client.jobs.story(vm.id)
        time.sleep(0.1)

    assert program(*shlex.split(door.command), ASK) == word
    assert "vm_woken" in [event.kind for event in client.jobs.story(vm.id)]
    client.jobs.delete(vm.id, force=True)


def program(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
