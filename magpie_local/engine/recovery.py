"""What to do with each attempt that an earlier leader left: the recovery matrix of reliability.md 2.0 as a pure
function.

It is run whenever a process takes the leadership, and running it twice is the same as running it once.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from magpie_local.domain.states import ScriptState, VmState
from magpie_local.domain.vm import Condition

if TYPE_CHECKING:
    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.engine.evidence import Evidence


class Step(Enum):
    """What becomes of an attempt that was found."""

    #: The end is recorded: destroy the VM if it is there, clean up.
    CLEAR = auto()
    #: No VM was ever meant to be, or it never ran: back to the queue.
    REQUEUE = auto()
    #: The VM lives: adopt it, and go on where it stands.
    RESUME = auto()
    #: The script has ended and the VM stays, or sleeps: adopt it, and keep it until it is stopped.
    KEEP = auto()
    #: The exit record is there, or the VM is not: judge by the evidence.
    CONCLUDE = auto()


_ALIVE = frozenset({Condition.STARTING, Condition.RUNNING, Condition.PAUSED})


def decide(job: JobRecord, attempt: Attempt, condition: Condition, evidence: Evidence) -> Step:
    """Return the step for one attempt.

    Args:
        job: the job as stored.
        attempt: its newest attempt.
        condition: its VM as the hypervisor sees it; GONE where there is none.
        evidence: what the attempt's files prove.
    """
    # With a workspace, a full disk of the host only makes the VM wait (fulldisk).
    lives = condition in _ALIVE or (condition is Condition.DISK_ERROR and job.workspace_id is not None)
    if job.script_state.is_final:
        lives = lives or job.vm_state is VmState.ASLEEP
        return Step.KEEP if job.is_kept and lives else Step.CLEAR
    if not attempt.intended:
        return Step.REQUEUE
    if evidence.exit is not None or not lives:
        return Step.CONCLUDE
    if condition is Condition.PAUSED and job.script_state is ScriptState.STARTING:
        # A fork that was being loaded or claimed: it never ran for this job.
        return Step.REQUEUE
    return Step.RESUME
