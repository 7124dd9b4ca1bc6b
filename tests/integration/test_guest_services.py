"""Workspaces, ssh and clean ends in real VMs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.domain.archive import Upload
from magpie_local.domain.exitrecord import parse_exit, parse_halt
from magpie_local.domain.frames import EXIT, HALT, STDERR, STDOUT, LogReader
from magpie_local.domain.identity import ENTROPY_SIZE, Renewal, mac_of
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.network import GuestConfig
from magpie_local.domain.vm import Condition, Disk, VmSpec
from magpie_local.engine.packing import pack
from magpie_local.engine.unpacking import unpack
from magpie_local.errors import HostError
from magpie_local.guest.channel import AgentGuest, AgentSession
from magpie_local.hypervisor.adapter import LibvirtHypervisor
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.hypervisor.processes import find_qemu
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.ports.guest import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from magpie_local.domain.exitrecord import ExitRecord

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

PATIENCE = 60.0


@dataclass
class Vm:
    """A running VM and its open channel."""

    spec: VmSpec
    session: AgentSession
    hypervisor: LibvirtHypervisor

    async def run(self, script: str, *, persistent: bool = False, **more: Any) -> ExitRecord:
        """Run a script to its end; `more` are further fields of its order."""
        order = Order(
            attempt_id=self.spec.attempt_id, nonce="n", script=script.encode(), env={}, timeout=None,
            log_limit=1 << 20, renewal=renewal(), persistent=persistent,
        )  # fmt: skip
        await self.session.run(replace(order, **more))
        await self.session.exited()
        await eventually(lambda: self.frames(EXIT) != [])
        record = parse_exit(self.frames(EXIT)[0], "n")
        assert record is not None
        return record

    def frames(self, *kinds: int) -> list[bytes]:
        frames = LogReader().feed(self.spec.log.read_bytes())
        return [payload for kind, _, payload in frames if kind in kinds]

    def output(self) -> str:
        return b"".join(self.frames(STDOUT, STDERR)).decode()

    async def gone(self) -> None:
        """Return when the VM has gone by itself."""
        async with asyncio.timeout(PATIENCE):
            while (await self.hypervisor.sight(self.spec.id)).condition is not Condition.GONE:
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """Kill QEMU."""
        qemu = find_qemu([self.spec.id])[self.spec.id]
        signal.pidfd_send_signal(qemu, signal.SIGKILL)
        os.close(qemu)
        await self.gone()


@dataclass
class Bench:
    """A folder, an image, and an embedded hypervisor."""

    folder: Path
    images: ImageCatalogue
    hypervisor: LibvirtHypervisor
    started: list[VmSpec] = field(default_factory=list)

    @asynccontextmanager
    async def vm(self, *disks: Disk) -> AsyncIterator[Vm]:
        """Start a VM and wait for its agent; it is destroyed afterwards."""
        image = await self.images.resolve("base")
        vm_id = new_vm_id()
        folder = self.folder / vm_id[:8]
        folder.mkdir(mode=0o700)
        scratch = Disk(path=folder / "scratch", format="qcow2")
        await QemuDisks().overlay(scratch.path, Disk(path=image.scratch, format="qcow2", readonly=True))
        spec = VmSpec(
            id=vm_id, state_id="state", attempt_id=str(uuid.uuid4()), vcpus=1, memory_mb=256, image=image,
            disks=(scratch, *disks), control=folder / "control", log=folder / "log", console=folder / "console",
            mac=mac_of(vm_id), outputs=folder / "outputs",
        )  # fmt: skip
        try:
            await self.hypervisor.start(spec)
            session = await AgentGuest().connect(spec.control)
            async with asyncio.timeout(PATIENCE):
                await session.hello()
            yield Vm(spec, session, self.hypervisor)
            await session.close()
        finally:
            await self.hypervisor.destroy(vm_id)

    def workspace(self, size_mb: int, disk_mb: int | None = None) -> Disk:
        """Return a new workspace; its disk may be larger than its file system."""
        raw = self.folder / "new.raw"
        with raw.open("wb") as file:
            file.truncate(size_mb << 20)
        tool("mkfs.ext4", "-q", "-F", raw)
        disk = Disk(path=self.folder / "workspace.qcow2", format="qcow2", serial="workspace")
        tool("qemu-img", "convert", "-q", "-O", "qcow2", raw, disk.path)
        if disk_mb is not None:
            tool("qemu-img", "resize", "-q", disk.path, f"{disk_mb}M")
        return disk

    def raw(self, disk: Disk) -> Path:
        """Return a raw copy of a disk."""
        raw = self.folder / "copy.raw"
        tool("qemu-img", "convert", "-q", "-O", "raw", disk.path, raw)
        return raw


@pytest.fixture
async def bench(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="mgp") as name:
        folder, images = Path(name), ImageCatalogue(image_folder)
        cache = tmp_path_factory.getbasetemp() / "cache"
        hypervisor = LibvirtHypervisor(folder / "l", "state", images=images, cache=cache, uri="qemu:///embed")
        await hypervisor.open()
        yield Bench(folder, images, hypervisor)
        await hypervisor.close()


@pytest.fixture
def key() -> Iterator[Path]:
    """A private key of ours; its public half lies beside it."""
    with tempfile.TemporaryDirectory(prefix="mgp") as folder:
        tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/key")
        yield Path(folder) / "key"


def renewal() -> Renewal:
    return Renewal(now=time.time(), entropy=os.urandom(ENTROPY_SIZE))


def tool(*command: object, fine: tuple[int, ...] = (0,)) -> str:
    """Run a program of the host; its output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode in fine, (command, done.stdout, done.stderr)
    return done.stdout


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


async def test_a_workspace_is_whole_after_a_job_and_there_for_the_next(bench: Bench) -> None:
    disk = bench.workspace(64, disk_mb=128)
    async with bench.vm(disk) as vm:
        mounted = await vm.session.mount(check=True)
        assert (mounted.fsck, mounted.grown, mounted.note) == (0, True, "")
        assert await vm.session.mount(check=True) == mounted
        # What is left running, and a second mount, must not keep it.
        record = await vm.run(
            "pwd; df -m --output=size . | tail -1; echo kept > file; mkdir -p /other; mount --bind . /other;"
            "(cd /other; exec setsid sleep 300) & head -c 8M /dev/urandom > large; md5sum < large > sum"
        )
        assert (record.code, record.workspace) == (0, "clean"), vm.output()
    where, size = vm.output().split()
    assert where == "/workspace"
    assert int(size) > 100
    tool("e2fsck", "-fn", bench.raw(disk))

    async with bench.vm() as vm:
        await bench.hypervisor.plug(vm.spec.id, disk)
        mounted = await vm.session.mount(check=False)
        assert (mounted.fsck, mounted.grown) == (None, False)
        # Swap holds a file system as nothing else does.
        record = await vm.run(
            "cat file; md5sum < large | cmp - sum && findmnt -n -o OPTIONS .; echo second > file;"
            "dd if=/dev/zero of=swap bs=1M count=4 status=none; mkswap -q swap; swapon swap"
        )
        assert (record.code, record.workspace) == (0, "busy"), vm.output()
    assert vm.output().startswith("kept\n")
    assert {"rw", "nosuid", "nodev", "noatime", "discard"} <= set(vm.output().split("\n")[1].split(","))
    # The journal makes good for what was not closed.
    raw = bench.raw(disk)
    tool("e2fsck", "-p", raw, fine=(0, 1))
    assert tool("debugfs", "-R", "cat /file", raw) == "second\n"


async def test_a_workspace_survives_the_death_of_its_vm(bench: Bench) -> None:
    disk = bench.workspace(32)
    async with bench.vm(disk) as vm:
        await vm.session.mount(check=False)
        order = Order(
            attempt_id="a", nonce="n", script=b"echo kept > file; sync; echo up; while :; do echo x >> more; done",
            env={}, timeout=None, log_limit=1 << 20, renewal=renewal(),
        )  # fmt: skip
        await vm.session.run(order)
        await eventually(lambda: vm.output() != "")
        await vm.kill()
    assert "needs_recovery" in tool("dumpe2fs", "-h", bench.raw(disk))

    async with bench.vm(disk) as vm:
        mounted = await vm.session.mount(check=True)
        assert mounted.fsck in (0, 1)
        record = await vm.run("cat file")
        assert (record.code, record.workspace, vm.output()) == (0, "clean", "kept\n")
    tool("e2fsck", "-fn", bench.raw(disk))


async def test_a_disk_that_holds_no_file_system_is_refused(bench: Bench) -> None:
    empty = Disk(path=bench.folder / "empty.qcow2", format="qcow2", serial="workspace")
    tool("qemu-img", "create", "-q", "-f", "qcow2", empty.path, "16M")
    async with bench.vm(empty) as vm:
        with pytest.raises(HostError, match="no ext4"):
            await vm.session.mount(check=True)
        record = await vm.run("pwd")
        assert (record.code, record.workspace, vm.output()) == (0, None, "/root\n")


async def test_a_persistent_vm_is_open_to_ssh_until_it_is_halted(bench: Bench, key: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("the OpenSSH client is not installed: apt-get install openssh-client")
    disk = bench.workspace(32)
    async with bench.vm(disk) as vm:
        port = await bench.hypervisor.expose(vm.spec.id)
        assert await bench.hypervisor.expose(vm.spec.id) == port
        with pytest.raises(HostError, match="settled first"):
            await vm.session.open_ssh(key.with_suffix(".pub").read_text())
        identity = await AgentGuest().new_identity(vm.spec.id)
        await vm.session.settle(identity, renewal())
        await vm.session.mount(check=False)
        host_key = await vm.session.open_ssh(key.with_suffix(".pub").read_text())
        assert host_key == " ".join(identity.host_key_public.split()[:2])
        ssh = Ssh(port, host_key, key)

        assert await ssh.run("magpie", "pwd; id -un; sudo id -un; ip route") == (
            0, "/home/magpie\nmagpie\nroot\n169.254.77.0/24 dev eth1 proto kernel scope link src 169.254.77.15 \n"
        )  # fmt: skip
        assert await ssh.run("root", "cd /workspace && findmnt -n -o TARGET . && ip -6 addr show eth1; exit 7") == (
            7, "/workspace\n",
        )  # fmt: skip

        record = await vm.run("(while sleep 0.05; do echo beat; echo >> beats; done) & exit 3", persistent=True)
        assert (record.code, record.workspace) == (3, None)
        assert (await vm.session.hello()).state == "exited"
        # What the script left in the background goes on, though nobody reads what it says.
        waiting = "n=$(wc -l < /workspace/beats); until [ $(wc -l < /workspace/beats) -gt $((n + 2)) ]; do :; done"
        assert await ssh.run("magpie", waiting) == (0, "")

        # The listener dies with its first process; whoever is in stays in.
        assert (await ssh.run("root", "pkill -o -x sshd; echo still in"))[1] == "still in\n"
        began = time.monotonic()
        while (await ssh.run("magpie", "echo back"))[1] != "back\n":
            assert time.monotonic() < began + 10  # 1 s, and what emulation makes of a few connections

        assert await vm.session.halt(5.0) == "clean"
        await vm.gone()
        halted = parse_halt(vm.frames(HALT)[0], "n")
        assert halted is not None
        assert halted.workspace == "clean"
    tool("e2fsck", "-fn", bench.raw(disk))


async def test_a_script_gets_its_files_and_network_and_gives_back_outputs_without_secrets(
    bench: Bench, tmp_path: Path
) -> None:
    secret, large = "s3cr3t value/1", os.urandom(6_000_000)
    uploads = [
        Upload(path="in/large.bin", content=large),
        Upload(path="/opt/magpie/tool", content=b"#!/bin/sh\necho tool\n", mode=0o755),
        Upload(path="in/empty", source=_empty(tmp_path)),
    ]  # fmt: skip
    packed = pack(uploads, tmp_path / "uploads.tar")
    network = GuestConfig(
        addresses=("10.9.8.7/24", "fd09::7/64"), gateways=("10.9.8.1", "fd09::1"), dns=("10.9.8.1",), mtu=1400,
        hosts=("10.9.8.9 first",),
    )  # fmt: skip
    async with bench.vm() as vm:
        await vm.session.settle(await AgentGuest().new_identity(vm.spec.id), renewal())
        await vm.session.upload(packed.blocks(), size=packed.size, crc=packed.crc)
        authorities = {"/usr/local/share/ca-certificates/host.crt": "A CERTIFICATE\n"}
        network = replace(network, authorities=authorities)
        await vm.session.join(network)
        await vm.session.join(replace(network, hosts=("10.9.8.9 first", "10.9.8.10 second")))
        record = await vm.run(
            "set -e; md5sum < in/large.bin; /opt/magpie/tool; stat -c %a in/empty;"
            "ip -br addr show eth0; ip route show default; ip -6 route show default; cat /sys/class/net/eth0/mtu;"
            "cat /etc/resolv.conf; getent hosts second; grep -c 'A CERTIFICATE' /etc/ssl/certs/ca-certificates.crt;"
            "echo $SECRET; echo $SECRET | base64; echo -n $SECRET | od -An -tx1 | tr -d ' \\n'; echo;"
            "mkdir -p out/sub; cp in/large.bin out/sub/; echo small > out/small; ln -s small out/link; exit 3",
            env={"SECRET": secret}, mask=(secret,), outputs=("out/", "none*"), outputs_limit=10_000_000,
        )  # fmt: skip
    words = vm.output().split("\n")
    assert words[:3] == [f"{hashlib.md5(large).hexdigest()}  -", "tool", "755"], words
    assert {"10.9.8.7/24", "fd09::7/64"} <= set(words[3].split())
    assert "via 10.9.8.1 " in words[4]
    assert "via fd09::1 " in words[5]
    assert words[6:10] == ["1400", "nameserver 10.9.8.1", "10.9.8.10       second", "1"]
    assert words[10] == "***"
    assert words[11].startswith("***")
    assert words[12] == "***"
    assert record.code == 3
    assert record.outputs is not None
    assert (record.outputs.files, record.outputs.missed, record.outputs.truncated) == (2, ("none*",), False)
    assert vm.spec.outputs is not None
    target = tmp_path / "outputs"
    result = unpack(
        vm.spec.outputs, target, size=record.outputs.size, crc=record.outputs.crc, max_size=10_000_000
    )  # fmt: skip
    assert result.notes == ("out/link: a symbolic link",)
    assert (target / "out/sub/large.bin").read_bytes() == large
    assert vm.spec.outputs.stat().st_mode & 0o777 == 0o600


async def test_an_upload_without_room_is_refused(bench: Bench, tmp_path: Path) -> None:
    async with bench.vm(bench.workspace(16)) as vm:
        await vm.session.mount(check=False)
        packed = pack([Upload(path="large", content=bytes(20_000_000))], tmp_path / "uploads.tar")
        with pytest.raises(HostError, match="No space left"):
            await vm.session.upload(packed.blocks(), size=packed.size, crc=packed.crc)
        assert (await vm.run("pwd")).workspace == "clean"


def _empty(folder: Path) -> Path:
    path = folder / "empty"
    path.mkdir()
    path.chmod(0o755)
    return path


@dataclass
class Ssh:
    """OpenSSH's client, that trusts one host key."""

    port: int
    host_key: str
    key: Path

    async def run(self, user: str, command: str) -> tuple[int | None, str]:
        """Run a command; its exit code and output."""
        known = self.key.with_name("known_hosts")
        known.write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n")
        process = await asyncio.create_subprocess_exec(
            "ssh", "-F", "none", "-i", self.key, "-p", str(self.port), "-o", f"UserKnownHostsFile={known}",
            "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            f"{user}@127.0.0.1", command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
        return process.returncode, output.decode()
