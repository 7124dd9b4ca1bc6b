"""The network of a guest: what its card and files become, and that this may be said again."""

from __future__ import annotations

import pytest

from magpie_local.guest.agent.network import Config, Network, batch, with_part

NETWORK: dict[str, object] = {
    "addresses": ["10.1.2.3/24", "fd00::3/64"], "gateways": ["10.1.2.1"], "dns": ["10.1.2.1", "fe80::1"], "mtu": 1400,
    "hosts": ["10.1.2.4 other-job"], "authorities": {"/etc/ssl/certs/host-ca.crt": "---\npem\n---\n"},
}  # fmt: skip


def test_a_card_is_set_up_from_whatever_it_was():
    assert batch(Config(NETWORK)).splitlines() == [
        "link set dev eth0 down",
        "addr flush dev eth0",
        "link set dev eth0 mtu 1400 up",
        "addr add 10.1.2.3/24 dev eth0",
        "addr add fd00::3/64 dev eth0 nodad",
        "route add default via 10.1.2.1 dev eth0",
    ]


def test_a_card_without_an_address_is_down():
    assert batch(Config(NETWORK | {"addresses": [], "gateways": []})).splitlines() == [
        "link set dev eth0 down",
        "addr flush dev eth0",
    ]


@pytest.mark.parametrize("own", ["", "127.0.0.1 localhost\n", "127.0.0.1 localhost"])
def test_our_part_of_a_file_is_replaced_and_the_rest_stays(own):
    first = with_part(own, ["10.0.0.2 one", "10.0.0.3 two"])
    second = with_part(first, ["10.0.0.4 three"])
    assert "10.0.0.2 one\n10.0.0.3 two\n" in first
    assert second == first.replace("10.0.0.2 one\n10.0.0.3 two\n", "10.0.0.4 three\n")
    assert with_part(second, ["10.0.0.4 three"]) == second
    assert with_part(second, []).rstrip("\n") == own.rstrip("\n")


def test_what_others_write_behind_our_part_stays():
    text = with_part("a\n", ["one"]) + "b\n"
    assert with_part(text, []) == "a\nb\n"


def test_the_network_is_said_before_the_script_and_while_it_runs(agent, client):
    noted = agent.home / ".magpie"
    client.send(op="network", **NETWORK)
    assert client.answer() == {"op": "networked"}
    assert (noted / "addresses").read_text() == "10.1.2.3/24\nfd00::3/64\n"
    client.run(b"sleep 300")
    # Two at once are done one after the other.
    client.send(op="network", **NETWORK | {"hosts": ["10.1.2.5 more"]})
    client.send(op="network", **NETWORK | {"hosts": []})
    assert (client.answer(), client.answer()) == ({"op": "networked"}, {"op": "networked"})
    assert (noted / "hosts").read_text() == ""


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": ["10.0.0.1/24 dev lo"]}, {"gateways": ["10.0.0.1\nlink del eth0"]}, {"dns": "10.0.0.1"},
        {"mtu": None}, {"hosts": ["10.0.0.1 a\n10.0.0.2 b"]}, {"hosts": [1]}, {"authorities": []}, {"addresses": [""]},
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_and_the_agent_goes_on(client, change):
    client.send(op="network", **NETWORK | change)
    answer = client.answer()
    assert (answer["op"], answer["to"]) == ("refused", "network")
    assert client.hello()["state"] == "idle"


def test_a_guest_that_was_told_nothing_has_nothing_to_undo(monkeypatch):
    touched: list[object] = []
    for name in ("_set_up", "put"):
        monkeypatch.setattr(f"magpie_local.guest.agent.network.{name}", lambda *what: touched.append(what))
    nothing = NETWORK | {"addresses": [], "gateways": [], "dns": [], "hosts": [], "authorities": {}, "mtu": 1500}

    network = Network()
    network.apply(Config(nothing))
    assert touched == []

    network.apply(Config(nothing | {"addresses": ["10.1.2.3/24"], "dns": ["10.1.2.1"]}))
    assert len(touched) == 2
