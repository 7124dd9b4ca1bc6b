"""What the hypervisor is asked for, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import VmId


#: The way in for ssh, over a VM's second card, which each VM has for itself: network, the guest's address in it, port.
SSH_WAY = ("169.254.77.0/24", "169.254.77.15", 22)
#: The same address as the agent is told it.
SSH_ADDRESS = "169.254.77.15/24"


class Accelerator(StrEnum):
    """How a VM's instructions are executed. Only KVM is a security boundary (reliability.md, finding 1)."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk of a VM; the n-th is the guest's n-th virtio disk. The format is always explicit, never probed (F83)."""

    path: Path
    format: str
    readonly: bool = False
    #: What the guest knows it by (virtio's serial, at most 20 characters); empty: by its place only.
    serial: str = ""
    #: Where the host's disk is full, the VM pauses and loses nothing; otherwise its guest is told of an error.
    waits_when_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """A built and verified image: what a VM boots."""

    name: str
    #: Digest over the contents; changes when anything in the image does.
    version: str
    kernel: Path
    initrd: Path
    #: Read-only root, shared by all VMs.
    root: Path
    #: Empty formatted qcow2; each VM writes to an overlay on it.
    scratch: Path
    #: Kernel command line.
    cmdline: str
    #: CPU architecture in QEMU's words (x86_64, aarch64).
    architecture: str
    min_memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RamFile:
    """Memory kept in a new file, so that others can map it later: that of a template in the making."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A VM frozen in mid-flight, to start forks from. Forks only read these files, and only as long as they live."""

    #: The guest's memory; a fork maps it copy-on-write.
    ram: Path
    #: The state of everything else, as QEMU saves it.
    devices: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpec:
    """One VM. Its metadata (`state_id`, `attempt_id`) marks it as ours, so that nothing foreign is ever touched."""

    id: VmId
    state_id: str
    attempt_id: str
    vcpus: int
    memory_mb: int
    image: BootImage
    #: Writable disks after the root: scratch first.
    disks: tuple[Disk, ...]
    #: UNIX socket (bound by the hypervisor, 0600) to the agent's control port.
    control: Path
    #: File that receives the agent's log port.
    log: Path
    #: File that receives the kernel's console.
    console: Path
    #: Of its network card. A fork's card starts with the template's; its agent is told the fork's own.
    mac: str
    #: File that receives the agent's outputs port; None where nobody wants what comes there. The port is there anyway.
    outputs: Path | None = None
    #: Where its memory comes from; None is fresh and its own. With a Snapshot it goes on where that stands.
    memory: RamFile | Snapshot | None = None
    #: It ends with the engine that started it, however that ends, until `LiveVms.resume` lets it go.
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimes:
    """Where the time of a start went, seconds."""

    #: Until the hypervisor had made the VM.
    create: float
    #: Loading a fork's device state.
    load: float = 0.0
    #: Until its CPUs ran.
    resume: float = 0.0


class Condition(StrEnum):
    """What the hypervisor says of a VM."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    #: Paused by itself because a disk could not be written (F11).
    DISK_ERROR = "disk_error"
    CRASHED = "crashed"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSight:
    """One of our VMs as the hypervisor sees it now."""

    id: VmId
    attempt_id: str
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the opened hypervisor is and can do."""

    #: `qemu:///session`, `qemu:///embed`, or `fake`.
    connection: str
    accelerator: Accelerator
    #: One sentence: why this accelerator.
    accelerator_reason: str
    version: str
    #: Digest of all on this side that a snapshot depends on: QEMU, the machine that is built with it, the accelerator,
    #: the host's CPU. A snapshot is of no use under another one.
    fingerprint: str
