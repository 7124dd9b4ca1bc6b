from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from magpie_local.domain.states import (
    ACTIVE,
    FINAL,
    SCRIPT_TABLE,
    VM_TABLE,
    WAITING,
    EventKind,
    ScriptState,
    VmState,
    next_states,
)
from magpie_local.errors import IllegalTransition

TELLING = {EventKind.ACCEPTED, EventKind.STOP_REQUESTED, EventKind.DELETE_REQUESTED, EventKind.ADOPTED, EventKind.NOTE}


class Walk(RuleBasedStateMachine):
    """Any events in any order: whatever is allowed keeps the promises of the two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.script, self.vm = ScriptState.QUEUED, VmState.NONE
        self.ended_as: ScriptState | None = None
        self.claims = self.starts = 0

    @rule(event=st.sampled_from(EventKind), goal=st.none() | st.sampled_from(ScriptState))
    def happen(self, event: EventKind, goal: ScriptState | None) -> None:
        before = self.script, self.vm
        try:
            self.script, self.vm = next_states(*before, event, goal=goal)
        except IllegalTransition:
            return
        self.claims += event is EventKind.CLAIMED
        self.starts += event is EventKind.STARTED
        if self.script.is_final:
            self.ended_as = self.ended_as or self.script

    @precondition(lambda self: self.script is ScriptState.QUEUED)
    @rule()
    def claim(self) -> None:
        if not self.vm.is_alive:
            self.happen(EventKind.CLAIMED, None)

    @precondition(lambda self: self.script is ScriptState.STARTING)
    @rule()
    def start(self) -> None:
        self.happen(EventKind.STARTED, None)

    @invariant()
    def a_final_state_is_never_left(self) -> None:
        assert self.ended_as in (None, self.script)

    @invariant()
    def a_script_starts_at_most_once(self) -> None:
        assert self.starts <= 1
        assert self.starts <= self.claims


TestWalk = Walk.TestCase


def test_final_active_and_waiting_are_all_states_and_do_not_overlap():
    assert set(ScriptState) == FINAL | ACTIVE | WAITING
    assert len(FINAL) + len(ACTIVE) + len(WAITING) == len(ScriptState)


def test_no_row_of_the_table_leads_out_of_a_final_state():
    assert not FINAL & {state for state, _ in SCRIPT_TABLE}


def test_every_state_but_the_first_two_can_be_reached():
    targets = set().union(*SCRIPT_TABLE.values())

    assert targets == set(ScriptState) - {ScriptState.SCHEDULED}


def test_every_vm_that_may_be_alive_can_be_recorded_as_gone():
    alive = [state for state in VmState if state.is_alive]

    assert all(VM_TABLE[state, EventKind.VM_GONE] is VmState.GONE for state in alive)


@pytest.mark.parametrize("event", EventKind)
@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_script_state_takes_no_event_that_moves_scripts(state, event):
    moving = {moved for _, moved in SCRIPT_TABLE}

    if event in moving:
        with pytest.raises(IllegalTransition):
            next_states(state, VmState.NONE, event)
    elif event in TELLING:
        assert next_states(state, VmState.NONE, event) == (state, VmState.NONE)


@pytest.mark.parametrize("goal", [ScriptState.SUCCEEDED, ScriptState.FAILED])
def test_exited_leads_to_the_goal(goal):
    after, _ = next_states(ScriptState.RUNNING, VmState.READY, EventKind.EXITED, goal=goal)

    assert after is goal


@pytest.mark.parametrize("goal", [None, ScriptState.LOST, ScriptState.QUEUED])
def test_exited_without_a_goal_of_its_own_is_illegal(goal):
    with pytest.raises(IllegalTransition):
        next_states(ScriptState.RUNNING, VmState.READY, EventKind.EXITED, goal=goal)


def test_a_claim_moves_both_axes_and_forgets_the_vm_of_the_last_attempt():
    after = next_states(ScriptState.QUEUED, VmState.GONE, EventKind.CLAIMED)

    assert after == (ScriptState.STARTING, VmState.NONE)


def test_a_job_is_not_claimed_while_a_vm_of_it_lives():
    with pytest.raises(IllegalTransition, match="VM state ready has no step for claimed"):
        next_states(ScriptState.QUEUED, VmState.READY, EventKind.CLAIMED)


def test_an_illegal_step_tells_the_state_the_event_and_the_story():
    with pytest.raises(IllegalTransition) as caught:
        next_states(ScriptState.LOST, VmState.GONE, EventKind.STARTED, story=["accepted", "lost reason=host_reboot"])

    assert "script state lost has no step for started" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == ["  accepted", "  lost reason=host_reboot"]
