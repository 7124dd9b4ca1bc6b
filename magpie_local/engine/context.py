"""What the engine works with: its ports and its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from magpie_local.domain.network import NONE

if TYPE_CHECKING:
    from magpie_local.domain.layout import Layout
    from magpie_local.domain.shape import Shape
    from magpie_local.ports.clock import Clock
    from magpie_local.ports.doors import Doors
    from magpie_local.ports.guest import Guest
    from magpie_local.ports.hypervisor import Disks, Hypervisor, LiveVms
    from magpie_local.ports.images import Images
    from magpie_local.ports.meter import Meter
    from magpie_local.ports.networks import Networks
    from magpie_local.ports.networkstore import NetworkStore
    from magpie_local.ports.sleep import Doorbells, Sleepers
    from magpie_local.ports.store import JobStore, LeaderStore, VmWishes
    from magpie_local.ports.vault import Vault
    from magpie_local.ports.workspaces import WorkspaceStore, WorkspaceUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The engine's view of the world."""

    layout: Layout
    state_id: str
    clock: Clock
    jobs: JobStore
    #: The same object as `jobs`, by its other port.
    wishes: VmWishes
    leader: LeaderStore
    workspaces: WorkspaceStore
    workspace_use: WorkspaceUse
    #: Named networks as stored, and what is behind the cards of VMs.
    network_store: NetworkStore
    networks: Networks
    hypervisor: Hypervisor
    #: The same object as `hypervisor`, by its other port.
    vms: LiveVms
    #: What VMs take of the host; any process may ask.
    meter: Meter
    sleepers: Sleepers
    doorbells: Doorbells
    disks: Disks
    guest: Guest
    vault: Vault
    doors: Doors
    images: Images


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmOptions:
    """What may be kept so that starts are fast. Zero turns a thing off."""

    #: Disk space of all templates together, bytes; without it every VM boots afresh.
    templates_size: int = 0
    #: Forks kept waiting for each shape.
    pool: int = 0
    #: Memory of all waiting forks together, MiB.
    pool_memory_mb: int = 0
    #: Shapes that the pool serves; empty: those used lately.
    pool_shapes: tuple[Shape, ...] = ()
    #: The network that jobs have unless they say otherwise: what is kept is on it already.
    network: str = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the engine may use, and how patient it is. Times in seconds."""

    #: Virtual CPUs of all running VMs together; a job that wants more runs alone.
    cpus: int
    #: Memory of all running VMs together, MiB.
    memory_mb: int
    boot_timeout: float = 120.0
    stop_grace: float = 5.0
    #: How long after the guest should have enforced a timeout the engine does it.
    deadline_slack: float = 10.0
    #: Attempts of a job whose script never started, before it counts as failed (a poison job must not loop).
    max_starts: int = 3
    #: The same for attempts that were cut short together with their engine: those are not the job's fault.
    max_interrupted_starts: int = 20
    warm: WarmOptions = field(default_factory=WarmOptions)
