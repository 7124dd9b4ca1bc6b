from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain import network
from magpie_local.domain.network import network_spec
from magpie_local.errors import InvalidInput, NetworkFull, NetworkTaken

PREFIX = network.ula_prefix("a-state", "blue")


@pytest.mark.parametrize("name", ["", "Blue", "a b", "a" * 41, "default", "none", "a\n", "ä", 3, None])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InvalidInput, match="network name"):
        network_spec(name, "10.0.0.0/24")


@pytest.mark.parametrize(
    "cidr",
    ["10.0.0.0", "10.0.0.0/15", "10.0.0.0/30", "10.0.0.1/24", "8.8.8.0/24", "172.32.0.0/16", "fd00::/64", "x/24", 10],
)
def test_a_range_that_is_not_private_or_of_a_wrong_size_is_refused(cidr):
    with pytest.raises(InvalidInput, match="network cidr"):
        network_spec("blue", cidr)


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "172.31.255.248/29", "192.168.0.0/16"])
def test_the_largest_and_the_smallest_ranges_are_allowed(cidr):
    assert str(network_spec("blue", cidr).cidr) == cidr


def test_the_same_name_and_overlapping_ranges_are_refused_and_neighbours_are_not():
    blue = network_spec("blue", "10.1.0.0/16")
    with pytest.raises(NetworkTaken, match="blue"):
        network.check_new(network_spec("blue", "10.2.0.0/16"), [blue])
    with pytest.raises(NetworkTaken, match=r"overlaps with 10\.1\.0\.0/16 of 'blue'"):
        network.check_new(network_spec("red", "10.1.7.0/24"), [blue])
    network.check_new(network_spec("red", "10.2.0.0/16"), [blue])


def test_a_network_is_filled_without_its_gateway_and_then_refuses():
    tiny = network_spec("tiny", "10.0.0.0/29")
    taken: list[str] = []
    for number in range(5):
        taken.append(network.allocate(tiny, f"job {number}", taken))
    assert sorted(taken) == [f"10.0.0.{last}" for last in (2, 3, 4, 5, 6)]
    with pytest.raises(NetworkFull, match="All 5 addresses"):
        network.allocate(tiny, "one more", taken)


@given(key=st.text(), taken=st.sets(st.integers(2, 254)))
def test_an_address_is_stable_and_never_one_that_is_taken(key, taken):
    spec = network_spec("blue", "10.0.0.0/24")
    if len(taken) == 253:
        return
    others = {f"10.0.0.{last}" for last in taken}
    address = network.allocate(spec, key, others)
    assert address == network.allocate(spec, key, others)
    assert address not in others
    assert 2 <= int(address.rpartition(".")[2]) <= 254


def test_each_network_of_each_state_directory_has_a_local_prefix_of_its_own():
    prefixes = {network.ula_prefix(state, name) for state in ("a", "b") for name in ("x", "y")}
    assert len(prefixes) == 4
    assert all(prefix.prefixlen == 64 and prefix.network_address.packed[0] == 0xFD for prefix in prefixes)
    assert network.ula_prefix("a", "x") == network.ula_prefix("a", "x")


def test_a_lease_has_the_same_address_again_and_another_than_a_job_of_its_name():
    address = network.lease_address(PREFIX, "web")
    assert address == network.lease_address(PREFIX, "web")
    assert IPv6Address(address) in PREFIX
    assert len({address, network.lease_address(PREFIX, "db"), network.member_address6(PREFIX, "web")}) == 3


@pytest.mark.parametrize("lease", ["", "a b", "a/b", "x" * 65, None, 7])
def test_a_lease_that_is_no_name_is_refused(lease):
    with pytest.raises(InvalidInput, match="ipv6_lease"):
        network.lease_address(PREFIX, lease)


def test_a_member_is_told_its_addresses_and_no_way_out():
    config = network.private_config(network_spec("blue", "10.0.0.0/24"), PREFIX, "10.0.0.9", "fd00::1")
    assert config.addresses == ("10.0.0.9/24", "fd00::1/64")
    assert (config.gateways, config.dns) == ((), ())


def test_names_of_jobs_become_host_names_each_its_own():
    jobs = [("1", "Web Server"), ("2", "web_server"), ("3", "web-server-2"), ("4", "ÄÖ!"), ("5", ""), ("6", "x" * 90)]
    assert network.host_names(jobs) == {
        "1": "web-server", "2": "web-server-2", "3": "web-server-2-2", "4": "job", "5": "job-2", "6": "x" * 63,
    }  # fmt: skip


@given(st.lists(st.text(max_size=70), max_size=20))
def test_host_names_are_always_valid_and_different(names):
    found = list(network.host_names([(str(number), name) for number, name in enumerate(names)]).values())
    assert len(set(found)) == len(names)
    for name in found:
        assert 1 <= len(name) <= 63
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert name.strip("-") == name


def test_hosts_lines_lead_to_every_address_of_every_member():
    names = {"1": "web", "2": "db"}
    lines = network.hosts_lines(names, {"1": ["10.0.0.2", "fd00::2"], "2": ["10.0.0.3"]})
    assert lines == ("10.0.0.2 web", "fd00::2 web", "10.0.0.3 db")


def test_networks_and_their_addresses_are_plain_values():
    assert network_spec("blue", "10.0.0.0/24") == network_spec("blue", "10.0.0.0/24")
    assert network_spec("blue", "10.0.0.0/24").cidr == IPv4Network("10.0.0.0/24")
