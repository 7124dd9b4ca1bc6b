"""Named points at which a test may kill the process (reliability.md 2.0, F1).

A crash can fall between any two steps of a job's life, so each step has a point before its durable fact is written
and one after it.
`MAGPIE_CRASH_AT=J6.after` kills this process with SIGKILL when it passes that point (`J6.after:2`: the second time);
`MAGPIE_FAULT_LOG=FILE` notes each point passed, so that a test can show that its kill found work in flight.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

#: In the order of a job's life: the step, and what is durable after it.
FAULT_POINTS: dict[str, str] = {
    "J1.before": "submit: nothing is stored yet",
    "J1.after": "submit: the job is stored, its id not yet returned",
    "J2.before": "claim: the job is still queued",
    "J2.after": "claim: starting, with a new attempt",
    "J4.before": "the attempt's folder is not there yet",
    "J4.after": "the attempt's folder and scratch disk are there",
    "J5.before": "the intent to start the VM is not stored yet",
    "J5.after": "intent stored, no VM",
    "J6.after": "the VM runs, its guest boots",
    "J8.before": "the agent answered, not yet recorded",
    "J8.after": "VM ready recorded, the script not handed over",
    "J9.after": "the script runs, not yet recorded",
    "J7.after": "running recorded",
    "J10.after": "the exit record was seen, the end not yet recorded",
    "J11.after": "the final state is stored, the VM still there",
    "J12.before": "the VM is being destroyed",
    "J12.after": "the VM has gone, its disk and socket still there",
    "J14.before": "all is cleaned up, not yet recorded",
    "J14.after": "the VM is recorded as gone",
    "lead.after": "leadership taken, nothing recovered yet",
    "recover.after": "recovery decided and begun",
    "close.before": "the engine closes, work handed over to nobody yet",
    "close.after": "leadership given up",
}

#: Behind the jobs, where templates and a pool are wanted.
WARM_POINTS: dict[str, str] = {
    "T1.after": "template: its VM is booted and exercised, and runs",
    "T2.after": "template: frozen, not yet whole on the shelf",
    "T3.after": "template: on the shelf, the wish for it still there",
    "P1.after": "pool: a fork is settled and exercised, and runs",
    "P2.after": "pool: the fork is paused, not yet on offer",
}

#: In every change of a workspace that makes disks, removes some, or grows one.
WORKSPACE_POINTS: dict[str, str] = {
    "W1.after": "workspace: the files of new disks are there, no row names them",
    "W2.after": "workspace: the rows name the new disks; what they replace is still there",
    "W3.after": "workspace: disks that nothing needs are forgotten, their files still there",
    "W4.after": "workspace: a disk was grown, its new size is not stored",
}

#: While a VM that is kept falls asleep, and while it wakes.
SLEEP_POINTS: dict[str, str] = {
    "S1.before": "sleep: the VM is as it was",
    "S1.after": "sleep: the VM is paused and its file whole, not yet recorded",
    "S2.after": "sleep: asleep recorded, the VM still there",
    "S3.after": "sleep: the VM has gone, the doorbell listens",
    "S4.after": "wake: the VM is loaded and paused, not yet recorded",
    "S5.after": "wake: recorded, the VM still paused",
    "S6.after": "wake: the VM runs, its file still there, its guest not yet told the time",
}

_POINTS = FAULT_POINTS.keys() | WARM_POINTS.keys() | WORKSPACE_POINTS.keys() | SLEEP_POINTS.keys()

_LOG = os.environ.get("MAGPIE_FAULT_LOG")
_point, _, _count = os.environ.get("MAGPIE_CRASH_AT", "").partition(":")
_left = int(_count or 1)


def fault_point(name: str) -> None:
    """Pass the point `name`; a no-op unless a test armed it."""
    if not (_LOG or _point):
        return
    _pass(name)


def _pass(name: str) -> None:
    global _left
    if name not in _POINTS:
        raise KeyError(name)
    if _LOG:
        with Path(_LOG).open("a") as log:
            log.write(f"{name}\n")
    if name == _point:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
