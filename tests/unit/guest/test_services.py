"""What the agent does beside its script, in a process of this host: a workspace, ssh, and clean ends."""

from __future__ import annotations

import os
import time

import pytest

from magpie_local.domain.exitrecord import HaltRecord, parse_halt
from magpie_local.domain.frames import EXIT, HALT, STARTED, STDOUT

IDENTITY = {
    "hostname": "h", "machine_id": "m", "boot_id": "b", "mac": "c", "host_key": "k",
    "host_key_public": "ssh-ed25519 AAAA somebody", "now": 1.5, "entropy": "00",
}  # fmt: skip
KEYS = {"authorized": "ssh-ed25519 BBBB me\n", "address": "169.254.77.15/24"}


@pytest.fixture
def disk(agent, tmp_path):
    """A disk that the agent finds as `workspace`; its files lie beside it."""
    disk = tmp_path / "workspace.qcow2"
    disk.write_bytes(b"")
    (tmp_path / "disks").mkdir()
    (tmp_path / "disks" / "workspace").symlink_to(disk)
    return disk


def mount(client, *, check: bool = False) -> dict[str, object]:
    client.send(op="mount", check=check, serial="workspace", path="/workspace")
    answer: dict[str, object] = client.answer()
    return answer


def test_a_script_starts_in_its_workspace_and_leaves_it_clean(agent, client, disk):
    assert mount(client) == {"op": "mounted", "fsck": None, "grown": False, "took_us": 0, "note": ""}
    client.run(b"pwd; echo kept > file; cd ~; echo lost > file")
    assert agent.exit().workspace == "clean"
    assert agent.output().decode().strip() == f"{disk}.files"
    assert os.listdir(f"{disk}.files") == ["file"]


def test_what_is_mounted_is_mounted_once(agent, client, disk):
    first = mount(client, check=True)
    assert (first["fsck"], mount(client)) == (0, first)


def test_a_disk_that_is_not_there_is_refused_and_the_agent_goes_on(agent, client):
    answer = mount(client)
    assert (answer["op"], answer["to"]) == ("refused", "mount")
    assert "no disk has the serial workspace" in str(answer["message"])
    client.run(b"pwd")
    assert agent.exit().workspace is None
    assert agent.output().decode().strip() == str(agent.home)


def test_nothing_of_the_script_can_write_when_the_exit_record_is_there(agent, client, disk):
    mount(client)
    client.run(b"setsid bash -c 'while :; do echo x >> file; done' & until [ -s file ]; do :; done")
    agent.exit()
    size = os.path.getsize(f"{disk}.files/file")
    time.sleep(0.1)
    assert os.path.getsize(f"{disk}.files/file") == size


def test_an_order_comes_after_the_mount_never_before(agent, client, disk):
    client.run(b"sleep 300")
    assert "taken an order before" in str(mount(client)["message"])


def test_a_persistent_guest_stays_with_what_its_script_left_running(agent, client):
    client.run(b"(while sleep 0.01; do echo x; echo x >> beats; done) & exit 3", persistent=True)
    assert client.answer()["op"] == "exited"
    assert (agent.exit().code, agent.exit().workspace) == (3, None)
    client.send(op="bye")
    assert client.hello() == {"op": "state", "id": None, "state": "exited", "attempt": "a-1", "settled": False}
    beats = agent.home / "beats"
    before = beats.stat().st_size if beats.exists() else 0
    _eventually(lambda: beats.exists() and beats.stat().st_size > before + 20)
    # The exit record ends the output: what comes later is read and dropped.
    assert agent.frames()[-1][0] == EXIT


def test_a_persistent_script_that_is_stopped_takes_its_group_along(agent, client):
    client.run(b"sleep 300 & echo $!; wait", persistent=True)
    _eventually(lambda: agent.output().endswith(b"\n"))
    client.send(op="stop", grace=5.0)
    assert agent.exit().stopped
    _eventually(lambda: not os.path.exists(f"/proc/{int(agent.output())}/cwd"))
    assert client.hello()["state"] == "exited"


def test_a_halt_ends_the_guest_and_all_in_it_and_says_so_last(agent, client, disk):
    mount(client)
    client.run(
        b"setsid bash -c 'trap \"sleep 0.2; echo well > end; exit\" TERM; touch up; while :; do sleep 0.01; done' &"
        b"until [ -e up ]; do sleep 0.01; done",
        persistent=True,
    )
    assert client.answer()["op"] == "exited"
    client.send(op="halt", grace=10.0)
    assert client.answer() == {"op": "halted", "workspace": "clean"}
    assert agent.process.wait(timeout=5) == 0
    assert [kind for kind, _, _ in agent.frames()] == [STARTED, EXIT, HALT]
    assert parse_halt(agent.frames()[-1][2], "a-nonce") == HaltRecord(workspace="clean")
    assert parse_halt(agent.frames()[-1][2], "another") is None
    with open(f"{disk}.files/end") as file:
        assert file.read() == "well\n"


def test_what_ignores_a_halt_is_killed_after_the_grace(agent, client):
    client.run(b"setsid bash -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.01; done' &", persistent=True)
    assert client.answer()["op"] == "exited"
    _eventually(lambda: (agent.home / "pid").exists() and (agent.home / "pid").read_text() != "")
    pid, began = (agent.home / "pid").read_text().strip(), time.monotonic()
    client.send(op="halt", grace=0.3)
    assert client.answer() == {"op": "halted", "workspace": None}
    assert 0.3 <= time.monotonic() - began < 5
    _eventually(lambda: not os.path.exists(f"/proc/{pid}/cwd"))


@pytest.mark.parametrize("persistent", [True, False])
def test_a_halt_waits_for_the_record_of_a_script_that_runs(agent, client, disk, persistent):
    mount(client)
    client.run(b"trap 'echo ended well; exit 4' TERM; echo up; while :; do sleep 0.01; done", persistent=persistent)
    agent.wait_for(b"up")
    client.send(op="halt", grace=5.0)
    assert client.answer()["op"] == "exited"
    assert client.answer() == {"op": "halted", "workspace": "clean"}
    record = agent.exit()
    assert (record.code, record.stopped, record.workspace) == (4, True, None if persistent else "clean")
    assert agent.output(STDOUT) == b"up\nended well\n"


def test_a_halt_before_any_order_ends_the_guest(agent, client):
    client.send(op="halt", grace=1.0)
    assert client.answer() == {"op": "halted", "workspace": None}
    assert agent.process.wait(timeout=5) == 0


def test_ssh_is_opened_to_a_settled_guest_in_any_state(agent, client):
    client.send(op="ssh", **KEYS)
    assert "settled first" in str(client.answer()["message"])
    client.send(op="settle", **IDENTITY)
    assert client.answer()["op"] == "settled"
    for state in ("idle", "exited"):
        client.send(op="ssh", **KEYS)
        assert client.answer() == {"op": "ssh", "host_key": "ssh-ed25519 AAAA"}
        if state == "idle":
            client.run(b"true", persistent=True)
            assert client.answer()["op"] == "exited"


def _eventually(holds) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
