"""The machine of our own VMs, as plain QEMU arguments: what hypervisor.domain_xml has libvirt build.

Always in emulation, with the devices on the same slots.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable
from benchmarks.references.processes import run
from magpie_local.hypervisor.domain_xml import CONTROL_PORT, LOG_PORT, machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.domain.vm import BootImage

MEMORY_MB = 512


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """What belongs to one VM."""

    folder: Path

    @property
    def scratch(self) -> Path:
        """Its own disk."""
        return self.folder / "scratch.qcow2"

    @property
    def log(self) -> Path:
        """Frames of the log port."""
        return self.folder / "log"

    @property
    def control(self) -> Path:
        """The agent's socket."""
        return self.folder / "control"

    @property
    def monitor(self) -> Path:
        """QEMU's own socket."""
        return self.folder / "monitor"


@contextmanager
def guest_files(blank: Path) -> Iterator[GuestFiles]:
    """Yield the files of a new VM whose disk holds what `blank` holds; they are removed at the end."""
    # Below /var/tmp, as the state of a real VM is on a disk; the name is short because socket paths are.
    with TemporaryDirectory(prefix="mgpref", dir="/var/tmp") as name:
        files = GuestFiles(Path(name))
        overlay(files.scratch, blank)
        yield files


def overlay(path: Path, base: Path) -> None:
    """Create a qcow2 whose content is that of the qcow2 `base` until written."""
    run(
        "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base.absolute()), str(path),
        cwd=path.parent,
    )  # fmt: skip


def emulator(architecture: str) -> str:
    """Return the path of QEMU.

    Raises:
        ReferenceUnavailable: it is not installed.
    """
    name = f"qemu-system-{architecture}"
    path = shutil.which(name)
    if path is None:
        raise ReferenceUnavailable(f"not installed: {name}")
    return path


def qemu_command(
    image: BootImage, files: GuestFiles, vm_id: str, *, ram: Path | None = None, incoming: bool = False
) -> list[str]:
    """Return the command that starts our guest.

    Args:
        image: what it boots.
        files: its own.
        vm_id: found again in the list of processes by it.
        ram: file of the memory: written by a template, mapped copy-on-write with `incoming`; None is memory of its own.
        incoming: wait for a device state instead of booting.
    """
    machine = machine_of(image.architecture)
    options = f"{machine.type},usb=off"
    memory = []
    if ram is not None:
        share = "off" if incoming else "on"
        memory = ["-object", f"memory-backend-file,id=ram,size={MEMORY_MB}M,mem-path={_escaped(ram)},share={share}"]
        options += ",memory-backend=ram"
    return [
        emulator(image.architecture), "-uuid", vm_id, "-no-user-config", "-nodefaults", "-display", "none",
        "-no-reboot", "-machine", options, "-accel", "tcg,tb-size=64", "-cpu", "max", "-smp", "1",
        "-m", str(MEMORY_MB), *memory,
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.cmdline,
        *_devices(image, files, panic=machine.panic is not None),
        "-chardev", f"socket,id=monitor,path={_escaped(files.monitor)},server=on,wait=off",
        "-mon", "chardev=monitor,mode=control",
        *(["-incoming", "defer"] if incoming else []),
    ]  # fmt: skip


def _devices(image: BootImage, files: GuestFiles, *, panic: bool) -> list[str]:
    return [
        "-device", "pcie-root-port,id=port1,chassis=1,port=8,bus=pcie.0,addr=0x1,multifunction=on",
        "-device", "pcie-root-port,id=port2,chassis=2,port=9,bus=pcie.0,addr=0x1.0x1",
        "-device", "virtio-serial-pci,id=serial,bus=pcie.0,addr=0x2",
        "-object", "rng-random,id=random,filename=/dev/urandom",
        "-device", "virtio-rng-pci,rng=random,bus=pcie.0,addr=0x3",
        "-drive", f"id=root,if=none,format=raw,readonly=on,file={_escaped(image.root)}",
        "-device", "virtio-blk-pci,drive=root,bus=pcie.0,addr=0x4",
        "-drive", f"id=scratch,if=none,format=qcow2,discard=unmap,file={_escaped(files.scratch)}",
        "-device", "virtio-blk-pci,drive=scratch,bus=pcie.0,addr=0x5",
        "-serial", f"file:{files.folder / 'console'}",
        "-chardev", f"socket,id=control,path={_escaped(files.control)},server=on,wait=off",
        "-device", f"virtserialport,bus=serial.0,nr=1,chardev=control,name={CONTROL_PORT}",
        "-chardev", f"file,id=log,path={_escaped(files.log)},append=on",
        "-device", f"virtserialport,bus=serial.0,nr=2,chardev=log,name={LOG_PORT}",
        "-netdev", "hubport,id=net,hubid=0",
        "-device", "virtio-net-pci,netdev=net,romfile=,bus=pcie.0,addr=0x1d",
        *(["-device", "pvpanic"] if panic else []),
    ]  # fmt: skip


def _escaped(path: Path) -> str:
    return os.fspath(path).replace(",", ",,")
