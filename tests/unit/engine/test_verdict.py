from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.exitrecord import ExitRecord
from magpie_local.domain.reasons import Reason
from magpie_local.domain.states import EventKind, ScriptState
from magpie_local.domain.vm import Condition
from magpie_local.engine.evidence import Evidence
from magpie_local.engine.verdict import Circumstances, failure, judge

STARTED = Evidence(started=True, exit=None, halt=None, panicked=False, powered_off=False, log_size=100)
RECORD = ExitRecord(code=0, signal=None, timed_out=False, stopped=False, started_at=110.0, ended_at=120.0)
GONE = Circumstances(condition=Condition.GONE, claimed_at=100.0, now=200.0, timeout=5.0)

S = ScriptState


def of(**record: Any) -> Evidence:
    return replace(STARTED, exit=replace(RECORD, **record))


@pytest.mark.parametrize(
    ("record", "state", "code", "message"),
    [
        ({}, S.SUCCEEDED, 0, None),
        ({"code": 3}, S.FAILED, 3, "The script exited with code 3."),
        ({"code": 255}, S.FAILED, 255, "The script exited with code 255."),
        ({"code": 137, "signal": 9}, S.FAILED, 137, "The script was ended by signal SIGKILL."),
        ({"code": 255, "signal": 127}, S.FAILED, 255, "The script was ended by signal number 127."),
        ({"code": 143, "signal": 15, "timed_out": True}, S.TIMED_OUT, 124, "The script ran longer than its timeout"),
        ({"code": 143, "signal": 15, "stopped": True}, S.STOPPED, 143, "Stopped on request."),
        ({"code": 0, "stopped": True}, S.STOPPED, 0, "Stopped on request."),
    ],
    ids=repr,
)  # fmt: skip
def test_the_exit_record_says_how_the_script_ended(record, state, code, message):
    outcome = judge(of(**record), GONE)

    assert (outcome.state, outcome.exit_code, outcome.reason) == (state, code, None)
    assert (outcome.message or "").startswith(message or "")


@pytest.mark.parametrize(
    ("evidence", "around", "state", "reason", "code"),
    [
        ({}, {"stop_asked": True}, S.STOPPED, None, None),
        ({"started": False}, {"stop_asked": True}, S.STOPPED, None, None),
        ({}, {"stop_asked": True, "overdue": True}, S.STOPPED, None, None),
        ({}, {"overdue": True}, S.TIMED_OUT, Reason.ENGINE_DEADLINE, 124),
        ({}, {"flooded": True}, S.FAILED, Reason.LOG_FLOOD, None),
        ({"panicked": True}, {}, S.FAILED, Reason.GUEST_PANIC, None),
        ({"panicked": True, "started": False}, {}, S.FAILED, Reason.GUEST_PANIC, None),
        ({}, {"condition": Condition.DISK_ERROR}, S.FAILED, Reason.HOST_DISK_FULL, None),
        ({}, {"condition": Condition.CRASHED}, S.FAILED, Reason.VM_ERROR, None),
        ({"started": False}, {}, S.FAILED, Reason.START_FAILED, None),
        ({}, {}, S.LOST, Reason.VM_KILLED, None),
        ({"powered_off": True}, {}, S.LOST, Reason.GUEST_SILENT, None),
        ({}, {"rebooted": True}, S.LOST, Reason.HOST_REBOOT, None),
        ({"powered_off": True}, {"rebooted": True}, S.LOST, Reason.HOST_REBOOT, None),
    ],
    ids=repr,
)  # fmt: skip
def test_without_a_record_the_circumstances_decide(evidence, around, state, reason, code):
    outcome = judge(replace(STARTED, **evidence), replace(GONE, **around))

    assert (outcome.state, outcome.reason, outcome.exit_code) == (state, reason, code)
    assert outcome.message
    assert outcome.ended_at == 200.0


@given(
    st.fixed_dictionaries({
        "condition": st.sampled_from(Condition),
        "stop_asked": st.booleans(),
        "overdue": st.booleans(),
        "flooded": st.booleans(),
        "rebooted": st.booleans(),
    }),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_the_exit_record_wins_over_all_circumstances(around, panicked, started):
    evidence = replace(of(code=7), panicked=panicked, started=started)

    outcome = judge(evidence, replace(GONE, **around))

    assert (outcome.kind, outcome.state, outcome.exit_code) == (EventKind.EXITED, S.FAILED, 7)


@given(st.floats(-1e18, 1e18), st.floats(-1e18, 1e18))
def test_times_that_the_guest_claims_stay_within_what_the_host_knows(started, ended):
    outcome = judge(of(started_at=started, ended_at=ended), GONE)

    assert outcome.started_at is not None
    assert outcome.ended_at is not None
    assert 100.0 <= outcome.started_at <= outcome.ended_at <= 200.0


def test_a_failure_has_the_reasons_sentence_unless_it_is_told_better():
    plain, told = failure(Reason.BOOT_TIMEOUT), failure(Reason.START_FAILED, message="QEMU is not there.")

    assert plain.message == "The VM did not reach its agent within the boot time limit."
    assert told.message == "QEMU is not there."
    assert (told.kind, told.state, told.reason) == (EventKind.FAILED, S.FAILED, "start_failed")
