"""Sleeping VMs by real processes on the fake hypervisor: commands, keepers and doorbells."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Place

CLI = ("-m", "magpie_local.cli")


def magpie(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    process = place.start(*CLI, *words)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def until(holds: Callable[[], object], within: float = 30.0) -> None:
    give_up = time.monotonic() + within
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def vm_state(place: Place, job_id: str) -> str:
    return str(json.loads(magpie(place, "status", job_id, "--json").stdout)["vm_state"])


def port_of(place: Place, job_id: str) -> int:
    return int(json.loads((place.home / "doors" / job_id / "door.json").read_text())["port"])


def kept(place: Place, *options: str) -> str:
    job_id = magpie(place, "run", "--detach", "--persistent", *options, "--", "true").stdout.strip()
    assert magpie(place, "wait", job_id).returncode == 0
    return job_id


def test_a_vm_sleeps_and_wakes_by_command(place):
    job_id = kept(place)
    asleep = magpie(place, "sleep", job_id)
    assert (asleep.returncode, asleep.stdout) == (0, f"{job_id}\n"), asleep.stderr
    assert "asleep" in magpie(place, "ps").stdout
    assert "VM asleep" in magpie(place, "status", job_id).stdout
    assert magpie(place, "wake", job_id).stdout == f"{job_id}\n"
    assert vm_state(place, job_id) == "ready"
    assert magpie(place, "sleep", job_id).returncode == 0
    assert magpie(place, "rm", "--force", job_id).returncode == 0
    until(lambda: not place.processes("doorbell"))


def test_whoever_connects_has_an_idle_vm_woken_though_every_engine_was_killed(place):
    job_id = kept(place, "--idle-pause", "2s")
    port = port_of(place, job_id)
    until(lambda: vm_state(place, job_id) == "asleep")
    # The keeper ends when the VM sleeps; one that is slow to is killed.
    (doorbell,) = place.processes("doorbell")
    for pid in place.processes():
        if pid != doorbell:
            os.kill(pid, signal.SIGKILL)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
        caller.sendall(b"SSH-2.0-test\r\n")
        until(lambda: vm_state(place, job_id) == "ready")
    assert port_of(place, job_id) == port
    until(lambda: vm_state(place, job_id) == "asleep")
    assert magpie(place, "rm", "--force", job_id).returncode == 0


@pytest.mark.parametrize("pause", ["0s", "soon", "-1s", ""])
def test_an_idle_pause_that_means_nothing_is_refused(place, pause):
    refused = magpie(place, "run", "--detach", "--persistent", f"--idle-pause={pause}", "--", "true")
    assert refused.returncode == 2
    assert "idle" in refused.stderr


def test_an_idle_pause_without_a_vm_that_stays_is_refused(place):
    refused = magpie(place, "run", "--detach", "--idle-pause", "10m", "--", "true")
    assert refused.returncode == 2
    assert "idle" in refused.stderr


def test_only_a_vm_that_is_kept_sleeps(place):
    plain = magpie(place, "run", "--detach", "--", "sleep", "60").stdout.strip()
    refused = magpie(place, "sleep", plain)
    assert refused.returncode == 2
    assert "persistent=True" in refused.stderr
    running = magpie(place, "run", "--detach", "--persistent", "--", "sleep", "60").stdout.strip()
    refused = magpie(place, "sleep", running)
    assert refused.returncode != 0
    assert "has not ended" in refused.stderr
    assert magpie(place, "rm", "--force", plain, running).returncode == 0
