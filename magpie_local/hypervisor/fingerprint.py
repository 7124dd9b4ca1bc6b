"""What a frozen VM depends on, on this side: under another of these it must not be thawed."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.ids import VmId
from magpie_local.domain.vm import Accelerator, BootImage, Disk, Snapshot, VmSpec
from magpie_local.hypervisor.domain_xml import domain_xml

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Lines of /proc/cpuinfo that tell one CPU from another.
_CPU_LINES = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags", "Features", "CPU part")


def fingerprint(emulator: str, versions: Mapping[str, int], accelerator: Accelerator) -> str:
    """Return a digest of QEMU, libvirt, the machine that we have them build, and what its CPU takes from the host's."""
    binary = Path(emulator).resolve().stat()
    file = (emulator, binary.st_size, binary.st_mtime_ns)
    facts: list[object] = [file, sorted(versions.items()), _machine(accelerator)]
    if accelerator is Accelerator.KVM:
        facts += [platform.release(), cpu_facts()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def cpu_facts() -> list[str]:
    """Return what the kernel says of the first CPU."""
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
        return [line for line in first.splitlines() if line.startswith(_CPU_LINES)]
    return []


def _machine(accelerator: Accelerator) -> str:
    """Return the machine as built for a neutral VM: whatever changes in domain_xml changes it."""
    nowhere = Path("/")
    image = BootImage(
        name="", version="", kernel=nowhere, initrd=nowhere, root=nowhere, scratch=nowhere, cmdline="",
        architecture=platform.machine(), min_memory_mb=1,
    )  # fmt: skip
    spec = VmSpec(
        id=VmId(""), state_id="", attempt_id="", vcpus=1, memory_mb=1, image=image,
        disks=(Disk(path=nowhere, format="qcow2"),), control=nowhere, log=nowhere, console=nowhere, mac="",
        memory=Snapshot(ram=nowhere, devices=nowhere),
    )  # fmt: skip
    return domain_xml(spec, accelerator, "")
