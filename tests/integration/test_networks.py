"""Networks of real VMs: who reaches whom."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain import network
from magpie_local.domain.identity import ENTROPY_SIZE, Renewal, mac_of
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.network import GuestConfig, network_spec
from magpie_local.domain.vm import Disk, VmSpec
from magpie_local.guest.channel import AgentGuest
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.hypervisor.net.linker import LibvirtLinker
from magpie_local.hypervisor.net.networks import VmNetworks
from magpie_local.hypervisor.processes import find_qemu
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.ports.guest import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.domain.ids import VmId

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

#: What a guest does with its configuration.
CONFIGURE = """
exec 2>&1
set -e
ip link set eth0 mtu {mtu} up
for address in {addresses}; do ip addr add $address dev eth0 nodad; done
for gateway in {gateways}; do
    case $gateway in *:*) ip -6 route add default via $gateway ;; *) ip route add default via $gateway ;; esac
done
set +e
"""
#: Serves 1 MB, and says which of the other addresses it reaches, again and again.
PEER = """
cat >/tmp/peer.py <<'END'
import socket, sys, threading, time
def serve(family, own):
    listener = socket.create_server((own, 7000), family=family)
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"x" * 1000000)
        connection.close()
def reached(address):
    try:
        with socket.create_connection((address, 7000), 2) as connection:
            connection.settimeout(10)
            return sum(map(len, iter(lambda: connection.recv(65536), b""))) == 1000000
    except OSError:
        return False
threading.Thread(target=serve, args=(socket.AF_INET6, "::"), daemon=True).start()
threading.Thread(target=serve, args=(socket.AF_INET, "0.0.0.0"), daemon=True).start()
number = 0
while True:
    number += 1
    found = [address for address in sys.argv[1:] if reached(address)]
    print(f"[round {number}: {' '.join(found)}]", flush=True)
    time.sleep(0.2)
END
python3 /tmp/peer.py """
#: As root: makes addresses that are its own into ones behind the gateway, and looks what answers.
INTRUDER = """
cat >/tmp/look.py <<'END'
import socket, sys
for address in sys.argv[1:]:
    try:
        with socket.create_connection((address, 80), 6) as connection:
            connection.settimeout(20)
            size = sum(map(len, iter(lambda: connection.recv(65536), b"")))
            print(f"[{address}: {size}]", flush=True)
    except OSError as error:
        print(f"[{address}: no]", flush=True)
END
python3 /tmp/look.py 203.0.113.7 2001:db8:2::7 198.51.100.10 2001:db8:1::10 198.51.100.1 10.0.2.2 10.0.2.3
ip addr flush dev lo
ip route flush table local dev lo
ip -6 route flush table local dev lo
ip route add 127.0.0.0/8 via 10.0.2.2
ip -6 route add ::1/128 via fd6d:6167:7069::2
sysctl -qw net.ipv4.conf.all.route_localnet=1
python3 /tmp/look.py 127.0.0.1 ::1 203.0.113.7
echo "[done]"
"""


@dataclass
class Bench:
    """A hypervisor, its VMs, and their networks."""

    folder: Path
    images: Path
    hypervisor: LibvirtHypervisor
    networks: VmNetworks
    specs: list[VmSpec] = field(default_factory=list)

    async def start(self) -> VmSpec:
        image = await ImageCatalogue(self.images).resolve("base")
        folder = self.folder / str(len(self.specs))
        folder.mkdir(mode=0o700)
        disk = Disk(path=folder / "scratch", format="qcow2")
        await QemuDisks().overlay(disk.path, Disk(path=image.scratch, format="qcow2", readonly=True))
        vm_id = new_vm_id()
        spec = VmSpec(
            id=vm_id, state_id="state", attempt_id=str(uuid.uuid4()), vcpus=1, memory_mb=192, image=image,
            disks=(disk,), control=folder / "control", log=folder / "log", console=folder / "console",
            mac=mac_of(vm_id),
        )  # fmt: skip
        await self.hypervisor.start(spec)
        self.specs.append(spec)
        return spec

    async def run(self, spec: VmSpec, config: GuestConfig, script: str) -> None:
        """Have a VM configure its card, and run a script."""
        words = {name: " ".join(getattr(config, name)) for name in ("addresses", "gateways")}
        order = Order(
            attempt_id=spec.attempt_id, nonce="a-nonce", env={}, timeout=None, log_limit=1 << 20,
            script=(CONFIGURE.format(mtu=config.mtu, **words) + script).encode(),
            renewal=Renewal(now=time.time(), entropy=os.urandom(ENTROPY_SIZE)),
        )  # fmt: skip
        session = await AgentGuest().connect(spec.control)
        await session.hello()
        await session.run(order)
        await session.close()

    async def said(self, spec: VmSpec, words: str, within: float = 90) -> str:
        """Return all that a VM has said, once `words` are among it."""
        try:
            async with asyncio.timeout(within):
                while words not in (text := spec.log.read_text(errors="replace")):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not within {within} s: {words!r} in {spec.log.read_text(errors='replace')[-1500:]!r}")
        return text

    async def rounds(self, spec: VmSpec, count: int) -> list[str]:
        """Return what a peer reached in each of the next rounds that begin after now."""
        done = spec.log.read_text(errors="replace").count("[round ")
        text = await self.said(spec, f"[round {done + 1 + count}:")
        return [part.partition("]")[0].partition(": ")[2] for part in text.split("[round ")[done + 2 :]][:count]

    async def reaches(self, spec: VmSpec, *addresses: str) -> None:
        """Return when a peer has reached all of these in one round, and nothing else: emulated ones may need a few."""
        for _ in range(8):
            [found] = await self.rounds(spec, 1)
            if found == " ".join(addresses):
                return
        pytest.fail(f"reached {found!r} and not {addresses}")


@pytest.fixture
async def bench(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="mgn") as name:
        folder = Path(name)
        hypervisor = LibvirtHypervisor(
            folder / "l", "state", images=ImageCatalogue(image_folder), cache=tmp_path_factory.getbasetemp() / "cache"
        )
        await hypervisor.open()
        made = Bench(folder, image_folder, hypervisor, VmNetworks(folder / "net", LibvirtLinker(hypervisor)))
        yield made
        for spec in made.specs:
            await hypervisor.destroy(spec.id)
        await hypervisor.close()


async def test_vms_of_one_network_reach_each_other_and_no_other_in_both_directions(bench):
    spec, prefix = network_spec("blue", "10.20.0.0/24"), network.ula_prefix("state", "blue")
    addresses = ["10.20.0.2", "10.20.0.3", "10.20.0.4"]
    addresses6 = [network.lease_address(prefix, name) for name in "abc"]
    a, b, c = vms = [await bench.start() for _ in addresses]
    await bench.networks.attach_private(a.id, "blue")
    await bench.networks.attach_private(b.id, "blue")
    # On a network of its own that looks just like the other one.
    await bench.networks.attach_private(c.id, "red")
    for vm, address, address6 in zip(vms, addresses, addresses6, strict=True):
        others = [each for each in (*addresses, *addresses6) if each not in (address, address6)]
        config = network.private_config(spec, prefix, address, address6)
        await bench.run(vm, config, PEER + " ".join(others))
    for vm in vms:
        await bench.said(vm, "[round 1:")

    await bench.reaches(a, addresses[1], addresses6[1])
    await bench.reaches(b, addresses[0], addresses6[0])
    assert await bench.rounds(c, 1) == [""]
    assert not any(
        each in vm.log.read_text(errors="replace") for vm in (a, b) for each in (addresses[2], addresses6[2])
    )
    # It was the network that kept it apart.
    await bench.networks.attach_private(c.id, "blue")
    await bench.reaches(c, *addresses[:2], *addresses6[:2])


async def test_a_killed_switch_is_mended_and_ends_with_the_last_vm(bench):
    spec, prefix = network_spec("blue", "10.20.0.0/24"), network.ula_prefix("state", "blue")
    first, second = "10.20.0.2", "10.20.0.3"
    a, b = await bench.start(), await bench.start()
    for vm, own, other in ((a, first, second), (b, second, first)):
        await bench.networks.attach_private(vm.id, "blue")
        await bench.run(vm, network.private_config(spec, prefix, own), PEER + other)
    await bench.reaches(a, second)
    [switch] = _switches(bench.folder, "blue")
    os.kill(switch, signal.SIGKILL)
    assert set(await _mended(bench, 2)) == {a.id, b.id}
    await bench.reaches(a, second)
    pidfd = find_qemu([b.id])[b.id]
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    await bench.reaches(a)
    assert len(_switches(bench.folder, "blue")) == 1
    await bench.networks.detach(a.id)
    async with asyncio.timeout(5):
        while _switches(bench.folder, "blue"):
            await asyncio.sleep(0.01)


async def test_the_default_network_leads_out_and_not_to_this_machine(world, bench):
    # The world comes first: a thread stays in the namespace in which it was started.
    vm = await bench.start()
    config = await bench.networks.attach_default(vm.id)
    assert world.holds_a_gate(), "the gate is in another namespace: nothing may be sent through it"
    await bench.run(vm, config, INTRUDER)
    text = await bench.said(vm, "[done]", within=280)
    for address in ("203.0.113.7", "2001:db8:2::7"):
        assert f"[{address}: 3000000]" in text
    for address in ("198.51.100.10", "2001:db8:1::10", "198.51.100.1", "10.0.2.2", "10.0.2.3", "127.0.0.1", "::1"):
        assert f"[{address}: no]" in text
    # The intruder's last look shows that its network still worked when it tried.
    assert text.count("[203.0.113.7: 3000000]") == 2


async def test_a_vm_of_no_network_reaches_nothing(bench):
    vm, peer = await bench.start(), await bench.start()
    for each, address in ((vm, "10.20.0.2"), (peer, "10.20.0.3")):
        other = {"10.20.0.2": "10.20.0.3", "10.20.0.3": "10.20.0.2"}[address]
        await bench.run(each, GuestConfig(addresses=(f"{address}/24",)), PEER + other)
    assert await bench.rounds(vm, 1) == await bench.rounds(peer, 1) == [""]


async def _mended(bench: Bench, count: int) -> list[VmId]:
    """Return the VMs that were mended: QEMU may take a moment to see that its switch has gone."""
    found: list[VmId] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await bench.networks.mend()
    return found


def _switches(folder: Path, name: str) -> list[int]:
    """Return the switches that hold the lock of a network."""
    lock = str(folder / "net/n" / hashlib.sha256(name.encode()).hexdigest()[:12] / "lock")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            held = {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
            if b".net.switch\0" in (process / "cmdline").read_bytes() and lock in held:
                found.append(int(process.name))
    return found
