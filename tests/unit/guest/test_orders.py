"""What the agent does with orders, whole, broken and hostile; with its script and what that leaves behind."""

from __future__ import annotations

import os
import struct
import time

import pytest

from magpie_local.domain.frames import EXIT, MAX_PAYLOAD, STARTED, STDERR


def test_a_partial_order_dies_with_its_connection(agent, client):
    frames = client.order(b"#" * 200_000 + b"\ntouch half\n")
    client.socket.sendall(b"".join(frames[:3])[:-1000])
    client.close()
    second = agent.connect()
    assert second.hello()["state"] == "idle"
    second.run(b"echo whole")
    agent.exit()
    assert agent.output() == b"whole\n"
    assert not (agent.home / "half").exists()


def test_hello_voids_the_partial_order_before_it(agent, client):
    client.socket.sendall(client.order(b"echo half")[0])
    assert client.hello()["state"] == "idle"
    client.run(b"echo whole")
    agent.exit()
    assert agent.output() == b"whole\n"


def test_a_damaged_script_is_refused_and_not_started(agent, client):
    client.socket.sendall(b"".join(client.order(b"echo damaged", script_crc=1)))
    assert "damaged" in str(client.answer()["message"])
    assert client.hello()["state"] == "idle"
    assert agent.frames() == []


def test_a_second_order_is_refused_also_after_the_exit(agent, client):
    client.run(b"echo one")
    assert client.answer()["op"] == "exited"
    client.socket.sendall(b"".join(client.order(b"echo two")))
    assert client.answer()["op"] == "refused"
    assert [kind for kind, _, _ in agent.frames()].count(STARTED) == 1


@pytest.mark.parametrize(
    "message",
    [{"op": "fly"}, {}, {"op": None}, {"op": "run"}, {"op": "run", "env": 1}, {"op": {"op": "run"}}],
    ids=repr,
)
def test_what_the_agent_does_not_know_is_refused(client, message):
    client.send(**message)
    assert client.answer()["op"] == "refused"
    assert client.hello()["state"] == "idle"


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("<IB", 0xFFFFFFFF, 1),
        struct.pack("<IB", MAX_PAYLOAD + 1, 2) + b"x",
        struct.pack("<IB", 3, 9) + b"abc",
        struct.pack("<IB", 3, 1) + b"{[}",
        struct.pack("<IB", 2, 1) + b"[]",
        struct.pack("<IB", 100_000, 1) + b"[" * 100_000,
        os.urandom(64) + b"\xff" * 64,
    ],
    ids=["huge", "large blob", "kind", "no JSON", "no object", "deep", "random"],
)
def test_garbage_harms_nobody_but_its_sender(agent, client, garbage):
    client.socket.sendall(garbage)
    client.close()
    second = agent.connect()
    assert second.hello()["state"] == "idle"
    second.run(b"echo fine")
    assert agent.exit().code == 0


def test_who_reconnects_in_the_middle_learns_the_state(agent, client):
    client.run(b"until [ -e go ]; do sleep 0.01; done; echo done")
    client.close()
    second = agent.connect()
    assert second.hello() == {
        "op": "state", "id": None, "state": "running", "attempt": "a-1", "settled": False,
    }  # fmt: skip
    (agent.home / "go").touch()
    assert second.answer()["op"] == "exited"
    assert second.hello()["state"] == "exited"
    assert agent.output() == b"done\n"


def test_a_script_runs_and_ends_with_nobody_connected(agent, client):
    client.run(b"sleep 0.1; echo alone; exit 4")
    client.close()
    assert agent.exit().code == 4
    assert agent.output() == b"alone\n"


def test_a_background_child_that_holds_the_pipes_does_not_hold_the_job(agent, client):
    client.run(b"sleep 300 & echo $!; set -m; sleep 300 & echo $!; echo end")
    began = time.monotonic()
    agent.exit()
    assert time.monotonic() - began < 5
    *children, end = agent.output().split()
    assert end == b"end"
    _eventually_dead(children)


def test_a_background_flood_does_not_hold_the_job(agent, client):
    client.run(b"yes & setsid yes & sleep 0.2; echo $! > pid; exit 3", log_limit=100_000)
    assert agent.exit().code == 3
    os.kill(int((agent.home / "pid").read_text()), 9)


def test_what_was_written_before_the_exit_is_not_lost(agent, client):
    client.run(b"head -c 3000000 /dev/zero; echo last >&2; kill -9 $$")
    assert agent.exit().signal == 9
    assert len(agent.output()) == 3_000_005
    assert agent.output(STDERR) == b"last\n"


@pytest.mark.parametrize("timeout", [0.05, 0.3])
def test_a_timeout_is_never_early(agent, client, timeout):
    client.run(b"sleep 60", timeout=timeout)
    record = agent.exit()
    assert record.timed_out
    assert record.ended_at - record.started_at >= timeout


def test_a_script_that_ends_in_time_has_not_timed_out(agent, client):
    client.run(b"exit 0", timeout=30.0)
    record = agent.exit()
    assert (record.code, record.timed_out) == (0, False)


def test_a_stop_after_the_exit_changes_nothing(agent, client):
    client.run(b"exit 0")
    agent.exit()
    client.send(op="stop", grace=1.0)
    assert client.answer()["op"] == "exited"
    assert agent.exit().stopped is False


def test_stop_reaches_a_stopped_script_and_its_children(agent, client):
    client.run(b"sleep 300 & echo $!; kill -STOP $$")
    while not agent.output().endswith(b"\n"):
        time.sleep(0.005)
    client.send(op="stop", grace=30.0)
    record = agent.exit()
    assert (record.code, record.stopped) == (143, True)
    _eventually_dead(agent.output().split())


def test_an_interrupt_reaches_the_whole_process_group_as_ctrl_c_would(agent, client):
    client.run(b"sleep 300 & echo $!; sleep 300")
    while not agent.output().endswith(b"\n"):
        time.sleep(0.005)
    client.send(op="interrupt")
    record = agent.exit()
    assert (record.code, record.signal, record.stopped) == (130, 2, False)
    _eventually_dead(agent.output().split())


def test_a_script_may_take_an_interrupt_its_own_way(agent, client):
    client.run(b"trap 'echo caught' INT; echo up; until [ -e done ]; do sleep 0.02; done; exit 3")
    while agent.output() != b"up\n":
        time.sleep(0.005)
    client.send(op="interrupt")
    while agent.output() != b"up\ncaught\n":
        time.sleep(0.005)
    client.send(op="stop", grace=5.0)
    assert agent.exit().stopped


def test_an_interrupt_without_a_running_script_is_nothing(agent, client):
    client.send(op="interrupt")
    client.run(b"exit 0")
    assert agent.exit().code == 0
    client.send(op="interrupt")
    assert client.answer()["op"] == "exited"


def test_a_second_stop_may_shorten_the_grace(agent, client):
    client.run(b"trap '' TERM; echo up; while true; do sleep 0.02; done")
    while agent.output() != b"up\n":
        time.sleep(0.005)
    client.send(op="stop", grace=300.0)
    client.send(op="stop", grace=0.1)
    assert agent.exit().signal == 9


def test_an_order_that_bash_cannot_start_fails_with_its_reason(agent, client):
    client.run(b"true", env={"BIG": "x" * 200_000})
    assert agent.exit().code == 126
    assert b"can't start /bin/bash" in agent.output(STDERR)


def test_an_empty_script_succeeds(agent, client):
    client.run(b"")
    assert agent.exit().code == 0


def test_no_signal_is_ignored_or_blocked_in_the_script(agent, client):
    client.run(b"grep -E 'Sig(Ign|Blk)' /proc/self/status")
    agent.exit()
    blocked, ignored = (int(mask, 16) for mask in agent.output().split()[1::2])
    # 32 and 33 are the C library's own; it has them ignored in whatever it starts.
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


def test_bye_ends_the_agent_at_once(agent, client):
    client.run(b"true")
    agent.exit()
    client.send(op="bye")
    assert agent.process.wait(timeout=2) == 0


def test_an_agent_that_fails_ends(agent_with_full_log):
    client = agent_with_full_log.connect()
    client.socket.sendall(b"".join(client.order(b"true")))
    assert agent_with_full_log.process.wait(timeout=10) == 1


def test_the_script_and_log_are_private(agent, client):
    client.run(b'stat -c %a "$0" ../log ../control')
    agent.exit()
    assert agent.output() == b"700\n600\n600\n"


def test_the_exit_is_the_last_frame(agent, client):
    client.run(b"yes & sleep 0.1")
    agent.exit()
    time.sleep(0.1)
    assert agent.frames()[-1][0] == EXIT


def _eventually_dead(pids: list[bytes]) -> None:
    deadline = time.monotonic() + 5
    for pid in pids:
        while _alive(int(pid)):
            assert time.monotonic() < deadline, f"{pid!r} lives on"
            time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_agent_whose_host_has_forgotten_it_ends(impatient_agent):
    assert impatient_agent.process.wait(timeout=10) == 0
    assert impatient_agent.frames() == []


def test_what_the_script_called_has_the_grace_to_end_well(agent, client):
    client.run(
        b"""bash -c 'trap "sleep 0.3; echo ended well; exit 0" TERM; echo ready; while :; do sleep 0.05; done'"""
    )
    agent.wait_for(b"ready")

    client.send(op="stop", grace=5)

    record = agent.exit()
    assert record.stopped
    assert record.code == 128 + 15
    assert agent.output().endswith(b"ended well\n")


def test_what_ignores_the_stop_is_killed_after_the_grace(agent, client):
    client.run(b"""bash -c 'trap "" TERM; echo ready; while :; do sleep 0.05; done'""")
    agent.wait_for(b"ready")
    began = time.monotonic()

    client.send(op="stop", grace=0.5)

    assert agent.exit().stopped
    assert 0.5 <= time.monotonic() - began < 3
