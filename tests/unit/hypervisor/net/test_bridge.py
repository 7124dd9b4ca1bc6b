from __future__ import annotations

from magpie_local.hypervisor.net.bridge import PING, Bridge

A, B, C = (bytes.fromhex(f"5254000000{last:02x}") for last in (1, 2, 3))
ALL = b"\xff" * 6


def frame(receiver: bytes, sender: bytes) -> bytes:
    return receiver + sender + b"\x08\x00"


def bridge(*ports: int) -> Bridge:
    made = Bridge()
    made.ports.update(ports)
    return made


def test_a_frame_to_an_unknown_address_goes_to_all_others():
    assert set(bridge(1, 2, 3).targets(1, frame(B, A))) == {2, 3}


def test_a_frame_to_an_address_that_has_been_seen_goes_there_only():
    made = bridge(1, 2, 3)
    made.targets(2, frame(A, B))
    assert list(made.targets(1, frame(B, A))) == [2]


def test_a_broadcast_goes_to_all_others_and_is_nobodys_address():
    made = bridge(1, 2, 3)
    assert set(made.targets(1, frame(ALL, ALL))) == {2, 3}
    assert set(made.targets(2, frame(ALL, B))) == {1, 3}


def test_an_address_moves_with_its_vm():
    made = bridge(1, 2, 3)
    made.targets(2, frame(ALL, B))
    made.targets(3, frame(ALL, B))
    assert list(made.targets(1, frame(B, A))) == [3]


def test_what_was_behind_a_port_that_went_is_unknown():
    made = bridge(1, 2, 3)
    made.targets(2, frame(ALL, B))
    made.remove(2)
    assert set(made.targets(1, frame(B, A))) == {3}


def test_a_frame_does_not_come_back():
    made = bridge(1, 2)
    made.targets(1, frame(ALL, B))
    assert list(made.targets(1, frame(B, A))) == []


def test_a_ping_comes_back_and_goes_nowhere_else():
    assert list(bridge(1, 2).targets(1, PING)) == [1]


def test_invented_addresses_do_not_pile_up():
    made = bridge(1, 2)
    for number in range(10_000):
        made.targets(1, frame(ALL, b"\x02\x00" + number.to_bytes(4)))
    assert len(made._places) <= 4096
