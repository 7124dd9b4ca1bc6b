"""How an attempt ended: a pure function from evidence to outcome.

The runner and recovery share it, so that a crash can't change a verdict.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.job import Outcome
from magpie_local.domain.reasons import EXPLANATION, Reason
from magpie_local.domain.sizes import format_seconds
from magpie_local.domain.states import EventKind, ScriptState
from magpie_local.domain.vm import Condition

if TYPE_CHECKING:
    from magpie_local.domain.exitrecord import ExitRecord
    from magpie_local.engine.evidence import Evidence

#: What the CLI and coreutils' timeout(1) use.
EXIT_TIMED_OUT = 124


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the engine knows beside the evidence."""

    condition: Condition
    #: Somebody asked to stop the job.
    stop_asked: bool = False
    #: The engine ended the VM because its deadline had passed.
    overdue: bool = False
    #: The engine ended the VM because its log passed the hard limit.
    flooded: bool = False
    #: The host has restarted since the attempt began.
    rebooted: bool = False
    timeout: float | None = None
    #: When the engine saw the script start, if it did (wall clock).
    started_at: float | None = None
    #: The attempt began not before, and is judged now (wall clock): the guest's claims are clamped to this.
    claimed_at: float = 0.0
    now: float = 0.0


def judge(evidence: Evidence, around: Circumstances) -> Outcome:
    """Return how the attempt ended. The guest's exit record counts before everything else."""
    if evidence.exit is not None:
        return _by_record(evidence.exit, around)
    if around.stop_asked:
        return _ended(EventKind.STOPPED, ScriptState.STOPPED, around, message="Stopped on request.")
    if around.overdue:
        return _ended(
            EventKind.TIMED_OUT, ScriptState.TIMED_OUT, around, reason=Reason.ENGINE_DEADLINE, exit_code=EXIT_TIMED_OUT
        )
    reason = _failure(evidence, around)
    if reason is not None:
        return failure(reason, ended_at=around.now)
    if not evidence.started:
        return failure(Reason.START_FAILED, ended_at=around.now)
    return _ended(EventKind.LOST, ScriptState.LOST, around, reason=_loss(evidence, around))


def failure(reason: Reason, *, message: str | None = None, ended_at: float | None = None) -> Outcome:
    """Return the outcome of a job that the infrastructure failed."""
    text = message or EXPLANATION[reason]
    return Outcome(kind=EventKind.FAILED, state=ScriptState.FAILED, reason=reason, message=text, ended_at=ended_at)


def _by_record(record: ExitRecord, around: Circumstances) -> Outcome:
    kind, state, code, message = EventKind.EXITED, ScriptState.FAILED, record.code, _exit_text(record)
    if record.timed_out:
        limit = "its timeout" if around.timeout is None else f"its timeout of {format_seconds(around.timeout)}"
        kind, state, code = EventKind.TIMED_OUT, ScriptState.TIMED_OUT, EXIT_TIMED_OUT
        message = f"The script ran longer than {limit}."
    elif record.stopped:
        kind, state, message = EventKind.STOPPED, ScriptState.STOPPED, "Stopped on request."
    elif record.code == 0:
        state = ScriptState.SUCCEEDED
    # The guest's clock may be a second off (it starts from one of whole seconds), or lie: only its difference counts.
    started = min(max(around.started_at or record.started_at, around.claimed_at), around.now)
    ended = min(started + max(0.0, record.ended_at - record.started_at), around.now)
    return Outcome(kind=kind, state=state, exit_code=code, message=message, started_at=started, ended_at=ended)


def _exit_text(record: ExitRecord) -> str | None:
    if record.code == 0:
        return None
    if record.signal is None:
        return f"The script exited with code {record.code}."
    try:
        name = signal.Signals(record.signal).name
    except ValueError:
        name = f"number {record.signal}"
    return f"The script was ended by signal {name}."


def _failure(evidence: Evidence, around: Circumstances) -> Reason | None:
    if around.flooded:
        return Reason.LOG_FLOOD
    if evidence.panicked:
        return Reason.GUEST_PANIC
    if around.condition is Condition.DISK_ERROR:
        return Reason.HOST_DISK_FULL
    if around.condition is Condition.CRASHED:
        return Reason.VM_ERROR
    return None


def _loss(evidence: Evidence, around: Circumstances) -> Reason:
    if around.rebooted:
        return Reason.HOST_REBOOT
    return Reason.GUEST_SILENT if evidence.powered_off else Reason.VM_KILLED


def _ended(
    kind: EventKind, state: ScriptState, around: Circumstances, *,
    reason: Reason | None = None, message: str | None = None, exit_code: int | None = None,
) -> Outcome:  # fmt: skip
    text = message or (EXPLANATION[reason] if reason else None)
    return Outcome(kind=kind, state=state, exit_code=exit_code, reason=reason, message=text, ended_at=around.now)
