"""Real gates without VMs, probed by frames that a guest's root user could send."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_vm_id
from magpie_local.hypervisor.net import gate, policy
from magpie_local.hypervisor.net.frames import Splitter
from magpie_local.hypervisor.net.networks import VmNetworks
from magpie_local.hypervisor.net.uplink import Inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from magpie_local.domain.ids import VmId

# The addresses of the fixture `world`.
HERE4, ALSO4, HERE6 = "198.51.100.10", "192.0.2.33", "2001:db8:1::10"
NEXT4 = "198.51.100.1"
THERE4, THERE6 = "203.0.113.7", "2001:db8:2::7"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mgn") as made:
        yield Path(made)


class FakeLinker:
    """VMs that are sockets of this process."""

    def __init__(self) -> None:
        self.cards: dict[str, socket.socket] = {}
        self.paths: dict[str, str] = {}

    async def linked(self, vm_id: VmId) -> str | None:
        card = self.cards.get(vm_id)
        if card is None:
            return None
        readable, _, _ = select.select([card], [], [], 0)
        try:
            ended = readable and card.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            ended = True
        return None if ended else self.paths[vm_id]

    async def link(self, vm_id: VmId, path: str) -> None:
        await self.unlink(vm_id)
        card = socket.socket(socket.AF_UNIX)
        card.settimeout(5)
        card.connect(path)
        self.cards[vm_id], self.paths[vm_id] = card, path

    async def unlink(self, vm_id: VmId) -> None:
        card = self.cards.pop(vm_id, None)
        if card is not None:
            card.close()

    def close(self) -> None:
        for card in self.cards.values():
            card.close()


@pytest.fixture
def cards() -> Iterator[FakeLinker]:
    made = FakeLinker()
    yield made
    made.close()


@pytest.fixture
def networks(folder: Path, cards: FakeLinker) -> VmNetworks:
    return VmNetworks(folder / "net", cards)


FORBIDDEN = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", f"::ffff:{HERE4}", HERE4, HERE6, ALSO4, NEXT4,
]  # fmt: skip


async def test_through_a_gate_the_world_is_reachable_and_this_machine_is_not(world, networks, cards):
    vm = new_vm_id()
    config = await networks.attach_default(vm)
    assert config.addresses == ("10.0.2.15/24", "fd6d:6167:7069::15/64")
    answered = await asyncio.to_thread(_probe, cards.cards[vm], [THERE4, THERE6, *FORBIDDEN])
    assert answered == {THERE4, THERE6}


async def test_neighbours_are_reachable_with_leave_and_this_machine_is_not(world, folder, cards):
    vm = new_vm_id()
    await VmNetworks(folder / "net", cards, Inside(lan=True)).attach_default(vm)
    answered = await asyncio.to_thread(_probe, cards.cards[vm], [THERE4, *FORBIDDEN])
    assert answered == {THERE4, NEXT4}


async def test_a_named_service_is_reachable_unless_it_is_this_machines(world, folder, cards):
    vm = new_vm_id()
    services = ((NEXT4, 80), ("127.0.0.1", 80), ("::1", 80), (HERE4, 80), ("no.such.name.invalid", 80))
    await VmNetworks(folder / "net", cards, Inside(services=services)).attach_default(vm)
    answered = await asyncio.to_thread(_probe, cards.cards[vm], [THERE4, *FORBIDDEN])
    assert answered == {THERE4, NEXT4}


async def test_the_probe_would_find_this_machine_through_passt_alone(world):
    """The gate is what keeps guests out: without it, they reach what they must not."""
    passt, process = gate.start_passt("/usr/bin/passt", "46")
    with passt, process:
        gate.await_answer(passt, process, "46")
        assert {"127.0.0.1", HERE4} <= await asyncio.to_thread(_probe, passt, ["127.0.0.1", HERE4])
        passt.shutdown(socket.SHUT_RDWR)


async def test_an_address_that_this_machine_gets_later_is_out_of_reach_too(world, networks, cards):
    vm, later = new_vm_id(), "203.0.113.77"
    await networks.attach_default(vm)
    world.run("ip", "-n", world.here, "addr", "add", f"{later}/32", "dev", "lo")
    world.serve(world.here, 9, later)
    # The gate hears of it from the kernel, and has to be given the CPU for that.
    for _ in range(5):
        reached = await asyncio.to_thread(_probe, cards.cards[vm], [THERE4, later])
        if reached == {THERE4}:
            break
    assert reached == {THERE4}


async def test_a_gate_ends_with_its_vm_and_leaves_nothing(world, networks, cards, folder):
    vm = new_vm_id()
    await networks.attach_default(vm)
    assert len(_processes_in(world.here)) == 2
    await cards.unlink(vm)
    await _eventually(lambda: not _processes_in(world.here), 5)
    await networks.forget(vm)
    assert list((folder / "net/u").iterdir()) == []


@pytest.mark.parametrize("victim", ["passt", "gate"])
async def test_a_gate_ends_whole_and_can_be_mended(world, networks, cards, victim):
    vm = new_vm_id()
    await networks.attach_default(vm)
    assert await networks.mend() == []
    before = _processes_in(world.here)
    os.kill(next(pid for pid, line in before.items() if victim in line.split()[0 if victim == "passt" else -4]), 9)
    await _eventually(lambda: not before.keys() & _processes_in(world.here).keys(), 5)
    assert await networks.mend() == [vm]
    assert await asyncio.to_thread(_probe, cards.cards[vm], [THERE4]) == {THERE4}


async def test_gates_have_no_rights_and_no_environment_of_ours(world, networks, monkeypatch):
    monkeypatch.setenv("A_SECRET", "hidden")
    await networks.attach_default(new_vm_id())
    for pid in _processes_in(world.here):
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
        assert "\nCapEff:\t0000000000000000\n" in status
        assert b"hidden" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_nothing_of_a_gate_listens_beyond_its_socket(world, networks):
    before = _listeners()
    await networks.attach_default(new_vm_id())
    assert _listeners() == before


async def test_without_a_way_out_a_vm_is_connected_to_nothing(world, networks, cards):
    vm = new_vm_id()
    for family in ("-4", "-6"):
        world.run("ip", "-n", world.here, family, "route", "del", "default")
    config = await networks.attach_default(vm)
    assert (config.addresses, config.gateways, cards.cards) == ((), (), {})


async def test_a_machine_with_ipv6_only_has_that(world, networks, cards):
    vm = new_vm_id()
    world.run("ip", "-n", world.here, "route", "del", "default")
    config = await networks.attach_default(vm)
    assert config.addresses == ("fd6d:6167:7069::15/64",)
    assert await asyncio.to_thread(_probe, cards.cards[vm], [THERE6, "::1", HERE6]) == {THERE6}


async def test_a_vm_that_is_attached_already_keeps_its_gate(world, networks):
    vm = new_vm_id()
    await networks.attach_default(vm)
    before = _processes_in(world.here)
    await networks.attach_default(vm)
    assert _processes_in(world.here) == before


def _probe(card: socket.socket, targets: list[str]) -> set[str]:
    """Send a TCP SYN to port 80 of each target; return those that answered with SYN and ACK within 2 s."""
    ports = {20_000 + number: target for number, target in enumerate(targets)}
    for port, target in ports.items():
        frame = _syn(target, port)
        card.sendall(len(frame).to_bytes(4) + frame)
    card.settimeout(0.2)
    received, give_up = b"", time.monotonic() + 2
    while time.monotonic() < give_up:
        with contextlib.suppress(TimeoutError):
            received += card.recv(1 << 17)
    return {ports[port] for port in _accepted(received) if port in ports}


def _syn(target: str, port: int) -> bytes:
    version6 = ":" in target
    family = socket.AF_INET6 if version6 else socket.AF_INET
    sender = policy.ADDRESS6 if version6 else policy.ADDRESS4
    addresses = socket.inet_pton(family, sender) + socket.inet_pton(family, target)
    segment = port.to_bytes(2) + (80).to_bytes(2) + bytes([0, 0, 3, 232]) + bytes(4) + b"\x50\x02\xff\xff" + bytes(4)
    pseudo = addresses + len(segment).to_bytes(4) + (6).to_bytes(4)
    segment = segment[:16] + _checksum(pseudo + segment) + segment[18:]
    ethernet = bytes.fromhex("52550a000202525400123456")
    if version6:
        return ethernet + b"\x86\xdd\x60\0\0\0" + len(segment).to_bytes(2) + b"\x06\x40" + addresses + segment
    header = b"\x45\0" + (20 + len(segment)).to_bytes(2) + b"\0\1\0\0\x40\x06\0\0" + addresses
    return ethernet + b"\x08\x00" + header[:10] + _checksum(header) + header[12:] + segment


def _checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0")) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)


def _accepted(received: bytes) -> Iterator[int]:
    """Yield the ports to which a SYN was acknowledged."""
    for framed in Splitter().feed(received):
        frame = bytes(framed[4:])
        at = 54 if frame[12:14] == b"\x86\xdd" else 34
        if frame[12:14] != b"\x08\x06" and len(frame) > at + 13 and frame[at + 13] == 0x12:
            yield int.from_bytes(frame[at + 2 : at + 4])


def _processes_in(namespace: str) -> dict[int, str]:
    """Return the command lines of the gates and passts in a namespace."""
    place = os.stat(f"/run/netns/{namespace}").st_ino
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if (process / "ns/net").stat().st_ino == place and (
                "net.gate" in line or line.startswith("/usr/bin/passt")
            ):
                found[int(process.name)] = line.strip()
    return found


def _listeners() -> set[str]:
    """Return the addresses that something listens at, in this thread's namespace."""
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    datagram = [line.split() for kind in ("udp", "udp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return {row[1] for row in rows if row[3] == "0A"} | {row[1] for row in datagram}


async def _eventually(holds: Callable[[], bool], within: float) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)
