"""The built image in QEMU, with nothing of the engine or of libvirt in between."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.exitrecord import ExitRecord, parse_exit
from magpie_local.domain.frames import EXIT, STDERR, STDOUT, LogReader
from magpie_local.domain.identity import ENTROPY_SIZE, Renewal
from magpie_local.domain.ids import new_vm_id
from magpie_local.guest.channel import AgentGuest
from magpie_local.images.builder import build
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.ports.guest import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from magpie_local.domain.identity import Identity
    from magpie_local.domain.vm import BootImage

pytestmark = pytest.mark.vm

MACHINES = {"x86_64": "q35", "aarch64": "virt"}
BOOT_PATIENCE = 60.0


def _renewal() -> Renewal:
    return Renewal(now=time.time(), entropy=os.urandom(ENTROPY_SIZE))


@pytest.fixture
async def image(image_folder: Path) -> BootImage:
    return await ImageCatalogue(image_folder).resolve("base")


@dataclass
class Guest:
    """A running QEMU."""

    folder: Path
    process: asyncio.subprocess.Process

    async def run(self, script: str, identity: Identity | None = None) -> tuple[ExitRecord, str, str]:
        """Run a script; return how it ended, its stdout and its stderr."""
        session = await AgentGuest().connect(self.folder / "control")
        try:
            await session.hello()
            if identity is not None:
                await session.settle(identity, _renewal())
            order = Order(
                attempt_id="a", nonce="n", script=script.encode(), env={}, timeout=None, log_limit=1 << 20,
                renewal=_renewal(),
            )  # fmt: skip
            await session.run(order)
            await session.exited()
        finally:
            await session.close()
        frames = LogReader().feed((self.folder / "log").read_bytes())
        record = next(parse_exit(payload, "n") for kind, _, payload in frames if kind == EXIT)
        assert record is not None
        out, err = (
            b"".join(payload for kind, _, payload in frames if kind == wanted).decode() for wanted in (STDOUT, STDERR)
        )
        return record, out, err

    async def console(self) -> str:
        """Wait until the VM is gone; return what its console showed."""
        async with asyncio.timeout(BOOT_PATIENCE):
            await self.process.wait()
        return (self.folder / "console").read_text(errors="replace")


@contextlib.asynccontextmanager
async def boot(
    image: BootImage, folder: Path, *, disks: int = 2, append: str = "", memory_mb: int = 384, card: str = ""
) -> AsyncIterator[Guest]:
    """Boot `image` with the first `disks` of its two disks."""
    scratch = folder / "scratch.qcow2"
    shutil.copyfile(image.scratch, scratch)
    drives = [(image.root, "raw,readonly=on"), (scratch, "qcow2")][:disks]
    argv = [
        f"qemu-system-{image.architecture}", "-machine", MACHINES[image.architecture], "-accel", "tcg", "-cpu", "max",
        "-m", str(memory_mb), "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{folder}/console",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", f"{image.cmdline} {append}",
        "-device", "virtio-serial-pci", "-device", "virtio-rng-pci",
        "-chardev", f"socket,id=control,path={folder}/control,server=on,wait=off",
        "-device", "virtserialport,chardev=control,name=org.magpie.control",
        "-chardev", f"file,id=log,path={folder}/log", "-device", "virtserialport,chardev=log,name=org.magpie.log",
    ]  # fmt: skip
    for number, (path, options) in enumerate(drives):
        argv += ["-drive", f"file={path},if=none,id=disk{number},format={options}"]
        argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    if card:
        argv += ["-device", f"virtio-net-pci,mac={card}"]
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        async with asyncio.timeout(10):
            while not (folder / "control").exists():
                await asyncio.sleep(0.01)
        yield Guest(folder, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_guest_holds_what_scripts_call(image: BootImage, tmp_path: Path) -> None:
    tools = "bash python python3 pip git curl ssh sshd sudo rsync ip ps less unzip xz jq wget e2fsck resize2fs"
    script = f"PATH=$PATH:/usr/sbin; for tool in {tools}; do type -P $tool >/dev/null || echo $tool; done"

    async with boot(image, tmp_path) as guest:
        record, missing, _ = await guest.run(script)

    assert record.code == 0
    assert missing == ""


async def test_the_guest_is_a_proper_linux(image: BootImage, tmp_path: Path) -> None:
    facts = {
        "id -u": "0",
        "hostname": "magpie",
        "stat -c '%u:%g %a' /": "0:0 755",
        "stat -c '%u:%g %a' /tmp": "0:0 1777",
        "stat -c '%u:%g' /usr/bin/sudo": "0:0",
        "readlink /dev/stdin": "/proc/self/fd/0",
        "cat <(echo a pipe of its own)": "a pipe of its own",
        "cat /sys/class/net/lo/operstate": "unknown",
        "python -c 'import os; print(*os.openpty())'": "3 4",
        "sudo -u magpie sudo id -u": "0",
        "find /etc/ssh -name 'ssh_host_*'": "",
        "cat /etc/machine-id": "",
        "findmnt -n -o FSTYPE / || grep -o '^root / overlay' /proc/mounts": "overlay",
    }
    script = "".join(f"{{ {command}; }} | tr '\\n' ' '; echo\n" for command in facts)

    async with boot(image, tmp_path) as guest:
        _, out, err = await guest.run(script)

    assert dict(zip(facts, (line.strip() for line in out.splitlines()), strict=True)) == facts
    assert err == ""


async def test_the_guest_is_who_it_is_told_to_be(image: BootImage, tmp_path: Path) -> None:
    identity = await AgentGuest().new_identity(new_vm_id())
    facts = {
        "echo $HOSTNAME": identity.hostname,
        "cat /etc/hostname": identity.hostname,
        "getent -s files hosts $HOSTNAME | tr -s ' '": f"127.0.0.1 localhost {identity.hostname}",
        "cat /proc/sys/kernel/random/boot_id": identity.boot_id,
        "sysctl -n kernel.random.boot_id": identity.boot_id,
        "stat -c '%a' /etc/ssh/ssh_host_ed25519_key": "600",
        "mkdir -p /run/sshd; /usr/sbin/sshd -T | grep -c ^hostkeyagent": "1",
        "ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key": identity.host_key_public,
        "cat /sys/class/net/eth0/address": identity.mac,
        "cat /sys/class/net/eth0/operstate": "down",
    }
    script = "".join(f"{{ {command}; }} | tr '\\n' ' '; echo\n" for command in facts)

    async with boot(image, tmp_path, card="52:54:00:00:00:01") as guest:
        _, out, err = await guest.run(script, identity)

    assert dict(zip(facts, (line.strip() for line in out.splitlines()), strict=True)) == facts
    assert err == ""


async def test_the_guest_powers_off_when_its_agent_ends(image: BootImage, tmp_path: Path) -> None:
    async with boot(image, tmp_path) as guest:
        await guest.run("true")
        await guest.console()

        assert guest.process.returncode == 0


async def test_the_guest_powers_off_when_its_agent_is_killed(image: BootImage, tmp_path: Path) -> None:
    async with boot(image, tmp_path) as guest:
        with contextlib.suppress(Exception):  # the channel breaks in whatever way
            async with asyncio.timeout(BOOT_PATIENCE):
                await guest.run("kill -9 $PPID; sleep 1000")
        await guest.console()

        assert guest.process.returncode == 0


async def test_the_guest_starts_a_script_in_the_least_memory_of_its_manifest(image: BootImage, tmp_path: Path) -> None:
    async with boot(image, tmp_path, memory_mb=image.min_memory_mb) as guest:
        record, out, _ = await guest.run("python3 -c 'print(1)'")

    assert (record.code, out) == (0, "1\n")


async def test_the_probe_needs_no_disk(image: BootImage, tmp_path: Path) -> None:
    async with boot(image, tmp_path, disks=0, append="magpie.probe") as guest:
        console = await guest.console()

    assert "MAGPIE-PROBE-OK" in console


@pytest.mark.parametrize(("disks", "what"), [(0, "root disk (/dev/vda)"), (1, "scratch disk (/dev/vdb)")])
async def test_a_missing_disk_ends_the_vm_with_one_clear_line(
    image: BootImage, tmp_path: Path, disks: int, what: str
) -> None:
    async with boot(image, tmp_path, disks=disks) as guest:
        console = await guest.console()

    assert f"magpie-init: there is no {what}" in console


async def test_a_root_that_is_no_file_system_ends_the_vm_with_one_clear_line(image: BootImage, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes(1 << 20))

    async with boot(dataclasses.replace(image, root=damaged), tmp_path) as guest:
        console = await guest.console()

    assert "magpie-init: 'mount -a' failed" in console


async def test_a_build_without_changes_is_a_cache_hit(image_folder: Path) -> None:
    told: list[str] = []
    before = ImageCatalogue(image_folder).show("base")

    built = await build("base", image_folder, progress=told.append)

    assert built == before
    assert told == [f"base: up to date, version {before.folder.name}"]
