"""How an agent comes to an identity of its own, is exercised, and then takes its order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import AgentProcess, Client

IDENTITY = {
    "hostname": "magpie-12345678", "machine_id": "0" * 32, "boot_id": "1-2-3", "mac": "52:54:00:01:02:03",
    "host_key": "private\n", "host_key_public": "public",
}  # fmt: skip
RENEWAL = {"now": 1234.5, "entropy": "0123abcd"}


def settle(client: Client, **changes: object) -> dict[str, object]:
    message: dict[str, object] = {"op": "settle"} | IDENTITY | RENEWAL | changes
    client.send(**message)
    return client.answer()


def test_the_time_is_renewed_whatever_the_agent_is_at(agent: AgentProcess, client: Client) -> None:
    client.send(op="renew", **RENEWAL)
    assert client.answer() == {"op": "renewed"}
    assert noted(agent)["now"] == "1234.5"
    client.send(op="renew", now="soon", entropy="00")
    answer = client.answer()
    assert (answer["op"], answer["to"]) == ("refused", "renew")


def exercise(client: Client) -> dict[str, object]:
    client.send(op="exercise")
    return client.answer()


def noted(agent: AgentProcess) -> dict[str, str]:
    """Return what the agent of a host process keeps in the place of a guest's identity."""
    return {path.name: path.read_text() for path in (agent.home / ".magpie").iterdir()}


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_an_agent_is_settled_when_it_was_told_who_it_is(agent, client):
    assert client.hello()["settled"] is False
    assert settle(client) == {"op": "settled"}
    assert client.hello()["settled"] is True
    assert noted(agent) == IDENTITY | {"now": "1234.5", "entropy": "0123abcd"}


def test_the_last_identity_holds(agent, client):
    settle(client, host_key="a long private key\n")
    settle(client, hostname="other")
    assert client.hello()["settled"] is True
    assert (noted(agent)["hostname"], noted(agent)["host_key"]) == ("other", "private\n")


@pytest.mark.parametrize("field", ["mac", "hostname", "now", "entropy"])
def test_half_an_identity_is_none(client, field):
    message = {"op": "settle"} | IDENTITY | RENEWAL
    del message[field]
    client.send(**message)
    assert client.answer()["to"] == "settle"
    assert client.hello()["settled"] is False


@pytest.mark.parametrize("damage", [{"entropy": "xyz"}, {"entropy": 7}, {"now": "noon"}, {"now": None}], ids=repr)
def test_a_renewal_that_is_none_is_refused(client, damage):
    assert settle(client, **damage)["to"] == "settle"
    assert client.hello()["settled"] is False


def test_an_identity_that_can_not_be_taken_is_refused(agent, client):
    (agent.home / ".magpie").write_text("in its way")
    assert "can't take its identity" in str(settle(client)["message"])
    assert client.hello()["settled"] is False


def test_the_renewal_of_the_order_is_taken_up_before_the_script_starts(agent, client):
    settle(client)
    client.run(b"cat .magpie/now .magpie/entropy", now=99.25, entropy="ffee")
    agent.exit()
    assert agent.output() == b"99.25ffee"


def test_an_agent_without_an_identity_takes_an_order_all_the_same(agent, client):
    client.run(b"echo who am I")
    assert agent.exit().code == 0


def test_the_start_tells_where_its_time_went(client):
    client.socket.sendall(b"".join(client.order(b"true")))
    started = client.answer()
    assert started["op"] == "started"
    assert all(isinstance(started[key], int) and started[key] >= 0 for key in ("renew_us", "spawn_us"))


def test_an_order_whose_renewal_fails_starts_nothing(agent, client):
    (agent.home / ".magpie").write_text("in its way")
    client.socket.sendall(b"".join(client.order(b"touch started")))
    assert "nothing was started" in str(client.answer()["message"])
    assert client.hello()["state"] == "idle"
    assert agent.frames() == []


def test_an_exercise_leaves_nothing_behind(agent, client):
    before, tmp = everything_below(agent.folder), set(os.listdir("/tmp"))
    assert exercise(client) == {"op": "exercised"}
    assert everything_below(agent.folder) == before
    assert agent.frames() == []
    assert Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text() == ""
    assert not {name for name in set(os.listdir("/tmp")) - tmp if name.startswith(("sh-thd", "tmp"))}


def test_an_exercised_agent_is_idle_and_takes_its_one_order(agent, client):
    for _ in range(2):
        exercise(client)
    assert client.hello()["state"] == "idle"
    client.run(b"echo mine")
    assert agent.exit().code == 0
    assert agent.output() == b"mine\n"


def test_an_exercise_keeps_no_descriptor_open(agent, client):
    exercise(client)
    before = len(os.listdir(f"/proc/{agent.process.pid}/fd"))
    exercise(client)
    assert len(os.listdir(f"/proc/{agent.process.pid}/fd")) == before


def test_an_exercised_agent_must_be_settled_anew(client):
    settle(client)
    exercise(client)
    assert client.hello()["settled"] is False
    settle(client)
    assert client.hello()["settled"] is True


@pytest.mark.parametrize("op", ["settle", "exercise", "run"])
def test_during_its_exercise_an_agent_can_not_be_disturbed(client, op):
    client.send(op="exercise")
    if op == "run":
        client.socket.sendall(client.order(b"true")[0])
    else:
        client.send(**({"op": op} | IDENTITY | RENEWAL))
    refused = client.answer()
    assert (refused["to"], refused["message"]) == (op, "this agent is at its warm-up")
    assert client.answer() == {"op": "exercised"}


@pytest.mark.parametrize("script", [b"sleep 60", b"true"], ids=["running", "exited"])
@pytest.mark.parametrize("op", ["settle", "exercise"])
def test_an_agent_that_has_its_order_stays_what_it_is(client, script, op):
    client.run(script)
    if script == b"true":
        assert client.answer()["op"] == "exited"
    client.send(**({"op": op} | IDENTITY | RENEWAL))
    refused = client.answer()
    assert refused["to"] == op
    assert "taken an order before" in str(refused["message"])


def test_an_exercise_that_fails_is_told_and_leaves_nothing_behind(agent, client):
    agent.home.rmdir()
    refused = exercise(client)
    assert (refused["to"], refused["message"]) == ("exercise", "the warm-up ended with code 126")
    assert client.hello()["state"] == "idle"
    assert not Path(f"{agent.log}.script").exists()


def test_who_left_during_an_exercise_does_not_stop_it(agent, client):
    client.send(op="exercise")
    client.close()
    second = agent.connect()
    assert second.hello()["state"] == "idle"
    # The first one may still be at work; the word of its end may come here as well.
    while (answer := exercise(second))["op"] != "exercised":
        assert answer["message"] == "this agent is at its warm-up"


def test_patience_begins_anew_with_each_step(impatient_agent):
    client = impatient_agent.connect()
    for _ in range(4):
        settle(client)
    exercise(client)
    assert client.hello()["state"] == "idle"
    assert impatient_agent.process.wait(timeout=10) == 0
