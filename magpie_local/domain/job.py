"""Snapshots of a job, its attempts and its story, as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from magpie_local.domain.states import WAITING, EventKind, ScriptState, VmState, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.spec import UploadsSpec

#: Seed 000's five words for the two axes (features.md, status mapping).
_STATUS = {
    ScriptState.RUNNING: "running",
    ScriptState.SUCCEEDED: "completed",
    ScriptState.FAILED: "failed",
    ScriptState.TIMED_OUT: "stopped",
    ScriptState.STOPPED: "stopped",
    ScriptState.CANCELLED: "stopped",
    ScriptState.LOST: "failed",
}
STATUSES = ("pending", "running", "completed", "failed", "stopped")


def status_of(script: ScriptState, vm: VmState = VmState.NONE, *, persistent: bool = False) -> str:
    """Return seed 000's status: pending, running, completed, failed or stopped.

    A persistent job whose script exited 0 is running for as long as its VM stays, and stopped afterwards.
    """
    if persistent and script is ScriptState.SUCCEEDED:
        return "running" if vm.is_alive else "stopped"
    return _STATUS.get(script, "pending")


def states_of(status: str) -> tuple[ScriptState, ...]:
    """Return the script states that seed 000 calls `status`, of jobs that are not persistent."""
    return tuple(state for state in ScriptState if status_of(state) == status)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job as stored, without its inputs (JobStore.inputs reads them)."""

    #: Rises with each accepted job; lists are ordered by it, never by a clock.
    seq: int
    id: JobId
    name: str
    description: str
    vcpus: int
    memory_mb: int
    env: Mapping[str, str] = field(repr=False)
    #: Names of further entries, whose values nobody sees.
    secret_names: tuple[str, ...]
    timeout: float | None
    image: str
    log_limit: int
    #: Whether its VM may share memory pages with others: `shared` or `private`.
    isolation: str
    #: The workspace that it has; None for a job without.
    workspace_id: str | None
    #: Whether its VM stays after the script.
    persistent: bool
    #: Seconds without a connection after which such a VM is put to sleep; None is never.
    idle_pause: float | None
    #: `default`, `none`, or a named network.
    network: str
    #: The name of its IPv6 address, where it has one that keeps.
    ipv6_lease: str | None
    #: Its addresses on a named network, or of its lease; of the default network all VMs have the same.
    address: str | None
    address6: str | None
    #: Patterns of files to collect at the script's end, and the most bytes of them.
    outputs: tuple[str, ...]
    outputs_limit: int
    script_state: ScriptState
    vm_state: VmState
    #: The number of the newest attempt; 0 before the first.
    attempt: int
    #: Wall clock, seconds since the epoch.
    created_at: float
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    reason: str | None
    message: str | None
    accelerator: str | None
    #: How its newest VM came to be: cold, fork or pool.
    start: str | None
    #: Why the scheduler lets it wait, where it is the first that does.
    waiting: str | None
    #: What its VM, which is kept, is asked to do.
    wish: Wish | None
    stop_requested_at: float | None
    delete_requested_at: float | None

    @property
    def is_waiting(self) -> bool:
        """Whether no attempt is under way and none has ended."""
        return self.script_state in WAITING

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do: the script's state is final and no VM is left."""
        return self.script_state.is_final and not self.vm_state.is_alive

    @property
    def is_kept(self) -> bool:
        """Whether its script has exited and its VM stays, because nobody has asked to stop it."""
        exited = self.script_state in (ScriptState.SUCCEEDED, ScriptState.FAILED) and self.exit_code is not None
        alive = self.vm_state in (VmState.READY, VmState.PAUSED, VmState.ASLEEP)
        return self.persistent and exited and alive and self.stop_requested_at is None

    @property
    def needs_vm(self) -> bool:
        """Whether it is to have a VM from now on: its script goes on, or it is kept."""
        return not self.script_state.is_final or self.is_kept

    @property
    def is_attended(self) -> bool:
        """Whether somebody must look after it: a VM that is only kept needs nobody, unless it may fall asleep."""
        if self.is_settled:
            return False
        sleeps = self.vm_state is VmState.ASLEEP or self.idle_pause is None
        return not self.is_kept or self.wish is not None or not sleeps


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInputs:
    """What a job brings along beside its record: large, or not for everybody."""

    script: bytes = field(repr=False)
    #: The secret part of its environment, sealed (ports.vault); gone once the script's state is final.
    secrets: bytes | None = field(repr=False)
    uploads: UploadsSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job in one VM. Starts its script at most once."""

    job_id: JobId
    number: int
    vm_id: VmId
    #: Known to the guest's agent and to us only; an exit record without it is a forgery.
    nonce: str = field(repr=False)
    #: The host's boot at the time of the claim.
    boot_id: str
    claimed_at: float
    vm_started_at: float | None = None
    ready_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    gone_at: float | None = None
    accelerator: str | None = None
    #: Whether the intent to start the VM was written (J5).
    intended: bool = False

    @property
    def id(self) -> str:
        """`JOB.NUMBER`: names the folder and the domain's metadata."""
        return f"{self.job_id}.{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a job's story."""

    seq: int
    job_id: JobId
    attempt: int
    #: Wall clock, seconds since the epoch.
    time: float
    kind: EventKind
    #: Facts for a person and for tools: strings, numbers, booleans.
    detail: Mapping[str, str | int | float | bool | None] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        facts = " ".join(f"{key}={value}" for key, value in self.detail.items() if value is not None)
        return f"{self.kind} {facts}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended: the event and the facts that go with it."""

    kind: EventKind
    state: ScriptState
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
