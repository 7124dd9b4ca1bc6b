"""VmSpec -> libvirt domain XML: a pure function, with golden files (tests/unit/hypervisor/golden).

The machine is minimal: every device is one that a guest can attack QEMU through (F64). Only this module and the image
recipe know CPU architectures.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB
from magpie_local.domain.vm import Accelerator, Disk, RamFile, Snapshot
from magpie_local.errors import InvalidInput
from magpie_local.hypervisor.host import METADATA

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.vm import VmSpec

CONTROL_PORT, LOG_PORT, OUTPUTS_PORT = "org.magpie.control", "org.magpie.log", "org.magpie.outputs"

_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
#: For disks plugged in later; each costs 0.04 s of an emulated boot. What is there from the start sits on the root bus
#: itself, which saves 0.3 s: the kernel need not look behind bridges.
PLUGGABLE_DISKS = 2
_SERIAL_SLOT, _RNG_SLOT, _DISK_SLOTS = 2, 3, 4
#: Below the chipset's own (0x1f), and beyond all disks. Both cards share it: as functions 0 and 1 they are found in
#: this order, so that the job's card is the guest's eth0.
_CARD_SLOT = 0x1E
#: First byte of the second card's address; the rest is as in the first card's, which begins with 52. Both are locally
#: administered.
_MANAGE_PREFIX = "56"
_RAM = "magpie-ram"
#: MiB of translated code kept in emulation. When it is full all of it is dropped: with 32 a waiting fork had lost what
#: a script's start needs (0.17 s to its first line instead of 0.09). The default, up to 1 GiB a VM, gains no more.
_TRANSLATION_CACHE = 64
_SERIAL = re.compile("[A-Za-z0-9_-]{1,20}")
#: Characters that XML can't carry, and others that no path or command line of ours has reason to hold (F93).
_FORBIDDEN = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

ET.register_namespace("magpie", METADATA)
ET.register_namespace("qemu", _QEMU)


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between architectures."""

    type: str
    #: The console's device, in libvirt's words.
    serial: str
    #: Reports a kernel panic; None where libvirt knows none.
    panic: str | None
    acpi: bool


MACHINES = {
    "x86_64": Machine("q35", "isa-serial", "isa", acpi=True),
    "aarch64": Machine("virt", "system-serial", None, acpi=False),
}


def domain_name(vm_id: VmId) -> str:
    """Return the libvirt name of a VM."""
    return f"magpie-{vm_id}"


def machine_of(architecture: str) -> Machine:
    """Return what to build for `architecture`.

    Raises:
        InvalidInput: no machine is known for it.
    """
    if architecture not in MACHINES:
        raise InvalidInput("image architecture", architecture, f"it must be one of {', '.join(MACHINES)}")
    return MACHINES[architecture]


def domain_xml(spec: VmSpec, accelerator: Accelerator, emulator: str) -> str:
    """Return the XML of a transient domain.

    Raises:
        InvalidInput: a text holds a control character, or the architecture is unknown.
    """
    machine = machine_of(spec.image.architecture)
    domain = ET.Element("domain", type="kvm" if accelerator is Accelerator.KVM else "qemu")
    _text(domain, "name", domain_name(spec.id))
    _text(domain, "uuid", spec.id)
    metadata = ET.SubElement(domain, "metadata")
    ET.SubElement(
        metadata, f"{{{METADATA}}}vm", state=_checked(spec.state_id), attempt=_checked(spec.attempt_id)
    )  # fmt: skip
    _text(domain, "memory", str(spec.memory_mb), unit="MiB")
    _text(domain, "vcpu", str(spec.vcpus))
    _boot(domain, spec, machine)
    _cpu(domain, accelerator, machine)
    # Whatever a guest does, it never comes back by itself (F58).
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _text(domain, event, "destroy")
    _devices(domain, spec, machine, emulator)
    arguments = [*_file_ports(spec), *_cards(spec.mac), *_memory(spec)]
    _qemu_arguments(domain, arguments)
    _skip_cpu_questions(domain)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def disk_xml(disk: Disk, taken: Collection[str]) -> str:
    """Return the XML of a disk to plug in, under the first name that is not `taken` (vda, vdb, …).

    Raises:
        InvalidInput: all names are taken.
    """
    names = (f"vd{chr(letter)}" for letter in range(ord("a"), ord("z") + 1))
    name = next((name for name in names if name not in taken), None)
    if name is None:
        raise InvalidInput("disks", len(taken) + 1, "a VM has at most 26")
    return ET.tostring(_disk_element(name, disk), encoding="unicode")


def _boot(domain: ET.Element, spec: VmSpec, machine: Machine) -> None:
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch=spec.image.architecture, machine=machine.type)
    _text(os, "kernel", str(spec.image.kernel))
    _text(os, "initrd", str(spec.image.initrd))
    _text(os, "cmdline", spec.image.cmdline)


def _cpu(domain: ET.Element, accelerator: Accelerator, machine: Machine) -> None:
    features = ET.SubElement(domain, "features")
    if machine.acpi:
        ET.SubElement(features, "acpi")
        ET.SubElement(features, "apic")
    if accelerator is Accelerator.TCG:
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(_TRANSLATION_CACHE), unit="MiB")
    ET.SubElement(domain, "cpu", mode="host-passthrough" if accelerator is Accelerator.KVM else "maximum")


def _devices(domain: ET.Element, spec: VmSpec, machine: Machine, emulator: str) -> None:
    devices = ET.SubElement(domain, "devices")
    _text(devices, "emulator", emulator)
    _disk(devices, 0, Disk(path=spec.image.root, format="raw", readonly=True))
    for index, disk in enumerate(spec.disks):
        _spec_disk(devices, index, disk)
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "controller", type="pci", model="pcie-root")
    for _ in range(PLUGGABLE_DISKS):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    _on_root_bus(ET.SubElement(devices, "controller", type="virtio-serial", index="0"), _SERIAL_SLOT)
    serial = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(serial, "source", path=_checked(str(spec.console)), append="on")
    ET.SubElement(serial, "target", type=machine.serial, port="0")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "source", mode="bind", path=_checked(str(spec.control)))
    ET.SubElement(channel, "target", type="virtio", name=CONTROL_PORT)
    ET.SubElement(devices, "audio", id="1", type="none")
    ET.SubElement(devices, "memballoon", model="none")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    _on_root_bus(rng, _RNG_SLOT)
    if machine.panic:
        ET.SubElement(devices, "panic", model=machine.panic)


def _spec_disk(devices: ET.Element, index: int, disk: Disk) -> None:
    if index > 24:
        raise InvalidInput("disks", index + 1, "a VM has at most 25")
    _disk(devices, index + 1, disk)


def _disk(devices: ET.Element, number: int, disk: Disk) -> None:
    element = _disk_element(f"vd{chr(ord('a') + number)}", disk)
    _on_root_bus(element, _DISK_SLOTS + number)
    devices.append(element)


def _disk_element(name: str, disk: Disk) -> ET.Element:
    if disk.serial and not _SERIAL.fullmatch(disk.serial):
        raise InvalidInput("disk serial", disk.serial, "it must be 1 to 20 letters, digits, '_' and '-'")
    element = ET.Element("disk", type="file", device="disk")
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format)
    ET.SubElement(element, "source", file=_checked(str(disk.path)))
    ET.SubElement(element, "target", dev=name, bus="virtio")
    if disk.serial:
        _text(element, "serial", disk.serial)
    if disk.readonly:
        ET.SubElement(element, "readonly")
    else:
        # A full host disk is the guest's ENOSPC, and no VM that is paused for ever (F11), unless one looks after it.
        driver.attrib |= {"error_policy": "enospace" if disk.waits_when_full else "report", "discard": "unmap"}
    return element


def _on_root_bus(device: ET.Element, slot: int) -> None:
    ET.SubElement(device, "address", type="pci", domain="0", bus="0", slot=str(slot), function="0")


def _file_ports(spec: VmSpec) -> list[str]:
    """Return the ports that end in files, as plain QEMU arguments.

    A session's libvirt hands file channels to virtlogd, which rotates them at 2 MiB: frames would be cut and lost.
    This way QEMU itself appends to the file. The outputs' port is always there: a fork's devices must be its
    template's.
    """
    return [
        *_file_port(2, "magpie-log", LOG_PORT, spec.log),
        *_file_port(3, "magpie-outputs", OUTPUTS_PORT, spec.outputs),
    ]


def _file_port(number: int, name: str, port: str, path: Path | None) -> list[str]:
    """Return a port that ends in a file, or nowhere.

    The device is given as JSON, as libvirt's own are: QEMU makes those after all others, so the port would not find
    its controller.
    """
    device = {
        "driver": "virtserialport", "bus": "virtio-serial0.0", "nr": number,
        "chardev": name, "id": f"{name}-port", "name": port,
    }  # fmt: skip
    chardev = f"null,id={name}" if path is None else f"file,id={name},path={_option(path)},append=on"
    return ["-chardev", chardev, "-device", json.dumps(device)]


def _cards(mac: str) -> list[str]:
    """Return two network cards, connected to nothing: any VM, also a fork, can be given a network later.

    The first is the job's own; the second is the way in for ssh (host.ways, `expose`).
    """
    return [
        *_card(0, "magpie-card", mac, "magpie-net", "magpie-sink"),
        *_card(1, "magpie-manage", _MANAGE_PREFIX + mac[2:], "magpie-manage-net", "magpie-manage-sink"),
    ]


def _card(number: int, name: str, mac: str, network: str, sink: str) -> list[str]:
    """Return a card on a hub of its own, and a second port of that, which takes what is sent and drops it.

    On a hub where nobody else is, QEMU keeps a guest's first packet, and the card sends nothing any more: not even
    when somebody comes, since it is never asked again.
    """
    device = {
        "driver": "virtio-net-pci", "netdev": network, "id": name, "mac": mac, "romfile": "",
        "bus": "pcie.0", "addr": f"{_CARD_SLOT:#x}.{number:#x}", "multifunction": number == 0,
    }  # fmt: skip
    return [
        "-netdev", f"hubport,id={network},hubid={number}", "-netdev", f"hubport,id={sink},hubid={number}",
        "-device", json.dumps(device),
    ]  # fmt: skip


def _memory(spec: VmSpec) -> list[str]:
    """Return where the memory comes from: nothing for fresh memory, else a file that is shared or copied on write."""
    match spec.memory:
        case None:
            return []
        case RamFile(path=path):
            return _memory_file(path, spec.memory_mb, share=True)
        case Snapshot(ram=ram):
            return [*_memory_file(ram, spec.memory_mb, share=False), "-incoming", "defer"]


def _memory_file(path: Path, size_mb: int, *, share: bool) -> list[str]:
    backend = {
        "qom-type": "memory-backend-file", "id": _RAM, "size": size_mb * MIB, "mem-path": str(path), "share": share,
    }  # fmt: skip
    # QEMU merges a second -machine over libvirt's own.
    return ["-object", json.dumps(backend), "-machine", f"memory-backend={_RAM}"]


def _qemu_arguments(domain: ET.Element, arguments: list[str]) -> None:
    element = ET.SubElement(domain, f"{{{_QEMU}}}commandline")
    for argument in arguments:
        ET.SubElement(element, f"{{{_QEMU}}}arg", value=_checked(argument))


def _option(path: Path) -> str:
    """Return a path as a value among QEMU's comma-separated options."""
    return _checked(str(path)).replace(",", ",,")


def _skip_cpu_questions(domain: ET.Element) -> None:
    """Have libvirt read QEMU's CPU the old way, in 3 questions instead of 400.

    It asks for every property of the CPU, one at a time, before the guest may run: 0.25 of the 0.35 s of a start. What
    it learns only matters to CPUs that are described feature by feature.
    """
    capabilities = ET.SubElement(domain, f"{{{_QEMU}}}capabilities")
    ET.SubElement(capabilities, f"{{{_QEMU}}}del", capability="cpu-unavailable-features")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = _checked(text)


def _checked(text: str) -> str:
    if _FORBIDDEN.search(text):
        raise InvalidInput("VM description", text, "control characters can't be written into a domain's XML")
    return text
