"""The two state axes and their transition tables (architecture: "States: two axes, never one").

The script axis says what became of the user's script, the VM axis what the machine does. A persistent job whose script
exited 0 has script `succeeded` and VM `ready`. Each event moves at most one step on each axis; what is not in a table
is illegal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from magpie_local.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Iterable


class ScriptState(StrEnum):
    """What became of the script."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether the state is never left again."""
        return self in FINAL


class VmState(StrEnum):
    """What the job's VM does."""

    NONE = "none"
    BOOTING = "booting"
    READY = "ready"
    PAUSED = "paused"
    #: There is none: its memory is in a file, and it goes on from there when somebody wants it.
    ASLEEP = "asleep"
    STOPPING = "stopping"
    GONE = "gone"

    @property
    def is_alive(self) -> bool:
        """Whether there may be a VM in this state, or one that sleeps."""
        return self not in (VmState.NONE, VmState.GONE)


class EventKind(StrEnum):
    """What can happen to a job. The upper ones move a state, the lower ones only tell."""

    ACCEPTED = "accepted"
    DUE = "due"
    CLAIMED = "claimed"
    STARTED = "started"
    EXITED = "exited"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"
    REQUEUED = "requeued"
    VM_BOOTING = "vm_booting"
    VM_READY = "vm_ready"
    VM_PAUSED = "vm_paused"
    VM_RESUMED = "vm_resumed"
    VM_ASLEEP = "vm_asleep"
    VM_WOKEN = "vm_woken"
    VM_STOPPING = "vm_stopping"
    VM_GONE = "vm_gone"

    STOP_REQUESTED = "stop_requested"
    DELETE_REQUESTED = "delete_requested"
    SLEEP_REQUESTED = "sleep_requested"
    WAKE_REQUESTED = "wake_requested"
    SLEEP_FAILED = "sleep_failed"
    VM_REACHABLE = "vm_reachable"
    ADOPTED = "adopted"
    NOTE = "note"


class Wish(StrEnum):
    """What a VM that is kept is asked to do."""

    SLEEP = "sleep"
    WAKE = "wake"


S, V, E = ScriptState, VmState, EventKind

FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.TIMED_OUT, S.STOPPED, S.CANCELLED, S.LOST})
WAITING = frozenset({S.SCHEDULED, S.QUEUED})
ACTIVE = frozenset({S.STARTING, S.RUNNING})

#: (state, event) -> the states it may lead to; `exited` leads to one of two, by the exit code.
SCRIPT_TABLE: dict[tuple[ScriptState, EventKind], frozenset[ScriptState]] = {
    (S.SCHEDULED, E.DUE): frozenset({S.QUEUED}),
    (S.SCHEDULED, E.CANCELLED): frozenset({S.CANCELLED}),
    (S.QUEUED, E.CANCELLED): frozenset({S.CANCELLED}),
    (S.QUEUED, E.CLAIMED): frozenset({S.STARTING}),
    (S.QUEUED, E.FAILED): frozenset({S.FAILED}),
    (S.STARTING, E.REQUEUED): frozenset({S.QUEUED}),
    (S.STARTING, E.STARTED): frozenset({S.RUNNING}),
    (S.STARTING, E.FAILED): frozenset({S.FAILED}),
    (S.STARTING, E.STOPPED): frozenset({S.STOPPED}),
    (S.STARTING, E.LOST): frozenset({S.LOST}),
    (S.RUNNING, E.EXITED): frozenset({S.SUCCEEDED, S.FAILED}),
    (S.RUNNING, E.TIMED_OUT): frozenset({S.TIMED_OUT}),
    (S.RUNNING, E.STOPPED): frozenset({S.STOPPED}),
    (S.RUNNING, E.FAILED): frozenset({S.FAILED}),
    (S.RUNNING, E.LOST): frozenset({S.LOST}),
}

VM_TABLE: dict[tuple[VmState, EventKind], VmState] = {
    (V.NONE, E.VM_BOOTING): V.BOOTING,
    (V.GONE, E.CLAIMED): V.NONE,
    (V.NONE, E.CLAIMED): V.NONE,
    (V.BOOTING, E.VM_READY): V.READY,
    (V.READY, E.VM_PAUSED): V.PAUSED,
    (V.PAUSED, E.VM_RESUMED): V.READY,
    (V.READY, E.VM_ASLEEP): V.ASLEEP,
    (V.ASLEEP, E.VM_WOKEN): V.READY,
    (V.BOOTING, E.VM_STOPPING): V.STOPPING,
    (V.READY, E.VM_STOPPING): V.STOPPING,
    (V.PAUSED, E.VM_STOPPING): V.STOPPING,
    (V.ASLEEP, E.VM_STOPPING): V.STOPPING,
    (V.BOOTING, E.VM_GONE): V.GONE,
    (V.READY, E.VM_GONE): V.GONE,
    (V.PAUSED, E.VM_GONE): V.GONE,
    (V.ASLEEP, E.VM_GONE): V.GONE,
    (V.STOPPING, E.VM_GONE): V.GONE,
}

#: Which wishes an event leaves nothing of.
FULFILS: dict[EventKind, frozenset[Wish]] = {
    E.VM_ASLEEP: frozenset({Wish.SLEEP}),
    # Not VM_WOKEN: from then on the VM is what counts, but nobody reaches it yet.
    E.VM_REACHABLE: frozenset({Wish.WAKE}),
    E.SLEEP_FAILED: frozenset({Wish.SLEEP}),
    E.STOP_REQUESTED: frozenset(Wish),
    E.VM_STOPPING: frozenset(Wish),
    E.VM_GONE: frozenset(Wish),
}

_SCRIPT_EVENTS = frozenset(event for _, event in SCRIPT_TABLE)
_VM_EVENTS = frozenset(event for _, event in VM_TABLE)


def next_states(
    script: ScriptState, vm: VmState, event: EventKind, *, goal: ScriptState | None = None,
    story: Iterable[str] = (),
) -> tuple[ScriptState, VmState]:  # fmt: skip
    """Return both states after `event`.

    Args:
        script: the present state of the script.
        vm: the present state of the VM.
        event: what happened.
        goal: which final state, for the one event (`exited`) that may lead to several.
        story: the job's events so far, one line each, for the error.

    Raises:
        IllegalTransition: the tables have no such step.
    """
    new_script, new_vm = script, vm
    if event in _SCRIPT_EVENTS:
        allowed = SCRIPT_TABLE.get((script, event), frozenset())
        candidates = {goal} & allowed if goal is not None else allowed
        if len(candidates) != 1:
            raise _illegal("script", script, event, story)
        new_script = next(iter(candidates))
    if event in _VM_EVENTS:
        if (vm, event) not in VM_TABLE:
            raise _illegal("VM", vm, event, story)
        new_vm = VM_TABLE[vm, event]
    return new_script, new_vm


def _illegal(axis: str, state: str, event: EventKind, story: Iterable[str]) -> IllegalTransition:
    lines = "".join(f"\n  {line}" for line in story)
    return IllegalTransition(f"{axis} state {state} has no step for {event}.{lines}", hint="")
