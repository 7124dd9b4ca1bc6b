"""`magpie networks` as a user types it, with local processes in the place of VMs."""

from __future__ import annotations

import json

import pytest


def test_a_network_from_its_beginning_to_its_end(home) -> None:
    assert home.type("networks", "list") == ("", "no networks; `magpie networks create NAME CIDR` makes one\n")
    assert home.type("networks", "list", "--json")[0] == "[]\n"
    assert home.type("networks", "create", "backend", "10.20.0.0/24") == ("backend\n", "")
    assert home.type("networks", "create", "another", "10.21.0.0/16") == ("another\n", "")

    rows = [line.split() for line in home.type("networks", "list")[0].splitlines()]
    assert rows == [["NAME", "CIDR", "JOBS"], ["another", "10.21.0.0/16", "0"], ["backend", "10.20.0.0/24", "0"]]
    listed = json.loads(home.type("networks", "list", "--json")[0])
    assert [(one["name"], one["cidr"], one["jobs"]) for one in listed] == [
        ("another", "10.21.0.0/16", 0), ("backend", "10.20.0.0/24", 0),
    ]  # fmt: skip

    assert home.type("networks", "remove", "another") == ("another\n", "")
    assert [one["name"] for one in json.loads(home.type("networks", "list", "--json")[0])] == ["backend"]


def test_a_network_that_a_job_is_on_stays(home) -> None:
    home.type("networks", "create", "backend", "10.20.0.0/24")
    with home.client(MAGPIE_CPUS="1") as client:
        before = client.jobs.create("before", "sleep 60", memory_mb=64)
        waiting = client.jobs.create("waiting", "true", memory_mb=64, network="backend")

        assert json.loads(home.type("networks", "list", "--json")[0])[0]["jobs"] == 1
        out, err = home.type("networks", "remove", "backend", code=2)
        assert (out, len(err.splitlines())) == ("", 2)
        assert "network backend is in use by 1 job" in err

        client.jobs.delete(waiting.id, force=True)
        home.type("networks", "remove", "backend")
        client.jobs.delete(before.id, force=True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "Backend", "10.20.0.0/24"], 2, "1 to 40 of a-z, 0-9 and '-'"),
        (["create", "default", "10.20.0.0/24"], 2, "default and none mean something else"),
        (["create", "x" * 41, "10.20.0.0/24"], 2, "1 to 40"),
        (["create", "b", "rubbish"], 2, "such as 10.20.0.0/24"),
        (["create", "b", "10.20.0.1/24"], 2, "without host bits"),
        (["create", "b", "10.0.0.0/8"], 2, "/16 to /29"),
        (["create", "b", "8.8.8.0/24"], 2, "192.168.0.0/16"),
        (["create", "b", "fd00::/64"], 2, "IPv4"),
        (["create", "there", "10.30.0.0/24"], 2, "there is one already"),
        (["create", "b", "10.20.0.128/25"], 2, "overlaps with 10.20.0.0/24 of 'there'"),
        (["remove", "nobody"], 3, "magpie networks list"),
        (["remove", "../there"], 3, "There is no network"),
        (["create", "b"], 2, "Missing argument 'CIDR'"),
        (["remove"], 2, "Missing argument 'NAME'"),
        (["rename", "there"], 2, "No such command"),
    ],
)
def test_what_is_refused_changes_nothing_and_is_told_with_its_cure(
    home, arguments: list[str], code: int, said: str
) -> None:
    with home.client(lead=False) as client:
        client.networks.create("there", "10.20.0.0/24")

        out, err = home.type("networks", *arguments, code=code)

        assert out == ""
        assert said in err
        assert [one.name for one in client.networks.list()] == ["there"]


@pytest.mark.parametrize("verb", [[], ["list"], ["create"], ["remove"]])
def test_each_verb_has_help_with_its_example(home, verb: list[str]) -> None:
    out, _ = home.type("networks", *verb, "--help")

    assert out.startswith("Usage: ")
    assert not verb or f"magpie networks {verb[0]}" in out
