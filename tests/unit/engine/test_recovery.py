"""The recovery matrix of reliability.md 2.0, row by row."""

from __future__ import annotations

import pytest

from magpie_local.domain.exitrecord import ExitRecord
from magpie_local.domain.states import FINAL, ScriptState, VmState
from magpie_local.domain.vm import Condition
from magpie_local.engine.evidence import Evidence
from magpie_local.engine.recovery import Step, decide

NOTHING = Evidence(started=False, exit=None, halt=None, panicked=False, powered_off=False, log_size=0)
BEGUN = Evidence(started=True, exit=None, halt=None, panicked=False, powered_off=False, log_size=50)
RECORD = ExitRecord(code=0, signal=None, timed_out=False, stopped=False, started_at=1.0, ended_at=2.0)
ENDED = Evidence(started=True, exit=RECORD, halt=None, panicked=False, powered_off=True, log_size=90)

STARTING, RUNNING = ScriptState.STARTING, ScriptState.RUNNING


@pytest.mark.parametrize(
    ("state", "vm", "intended", "evidence", "condition", "step"),
    [
        # starting, no intent: the VM was never meant to be
        (STARTING, VmState.NONE, False, NOTHING, Condition.GONE, Step.REQUEUE),
        # starting with intent, no VM: it never came up, or died at once; the start marker in the log decides
        (STARTING, VmState.BOOTING, True, NOTHING, Condition.GONE, Step.CONCLUDE),
        (STARTING, VmState.BOOTING, True, BEGUN, Condition.GONE, Step.CONCLUDE),
        # the VM lives: adopt it
        (STARTING, VmState.BOOTING, True, NOTHING, Condition.STARTING, Step.RESUME),
        (STARTING, VmState.BOOTING, True, NOTHING, Condition.RUNNING, Step.RESUME),
        (STARTING, VmState.READY, True, BEGUN, Condition.RUNNING, Step.RESUME),
        (RUNNING, VmState.READY, True, BEGUN, Condition.RUNNING, Step.RESUME),
        (RUNNING, VmState.PAUSED, True, BEGUN, Condition.PAUSED, Step.RESUME),
        # the VM stands still for good, or is not there
        (RUNNING, VmState.READY, True, BEGUN, Condition.DISK_ERROR, Step.CONCLUDE),
        (RUNNING, VmState.READY, True, BEGUN, Condition.CRASHED, Step.CONCLUDE),
        (RUNNING, VmState.READY, True, BEGUN, Condition.GONE, Step.CONCLUDE),
        # a valid exit record ends it, whatever the VM does
        (STARTING, VmState.READY, True, ENDED, Condition.RUNNING, Step.CONCLUDE),
        (RUNNING, VmState.READY, True, ENDED, Condition.RUNNING, Step.CONCLUDE),
        (RUNNING, VmState.READY, True, ENDED, Condition.GONE, Step.CONCLUDE),
    ],
)  # fmt: skip
def test_each_row_of_the_matrix_has_its_step(a_job, an_attempt, state, vm, intended, evidence, condition, step):
    job, attempt = a_job(script_state=state, vm_state=vm, attempt=1), an_attempt(intended=intended)

    assert decide(job, attempt, condition, evidence) is step


@pytest.mark.parametrize(
    ("workspace_id", "steps"), [("w", (Step.RESUME, Step.KEEP)), (None, (Step.CONCLUDE, Step.CLEAR))]
)
def test_a_vm_that_waits_for_space_is_adopted_where_it_has_a_workspace(a_job, an_attempt, workspace_id, steps):
    usual = {"vm_state": VmState.PAUSED, "attempt": 1, "workspace_id": workspace_id, "persistent": True}
    runs = a_job(script_state=RUNNING, **usual)
    stays = a_job(script_state=ScriptState.SUCCEEDED, exit_code=0, **usual)

    found = [decide(job, an_attempt(intended=True), Condition.DISK_ERROR, BEGUN) for job in (runs, stays)]

    assert tuple(found) == steps


@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("evidence", [NOTHING, BEGUN, ENDED])
@pytest.mark.parametrize("state", sorted(FINAL))
def test_what_has_ended_is_only_cleared(a_job, an_attempt, state, evidence, condition):
    job = a_job(script_state=state, vm_state=VmState.STOPPING)

    assert decide(job, an_attempt(intended=True), condition, evidence) is Step.CLEAR
