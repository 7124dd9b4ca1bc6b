from __future__ import annotations

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.job import STATUSES, Event, states_of, status_of
from magpie_local.domain.reasons import EXPLANATION, Reason
from magpie_local.domain.states import EventKind, ScriptState


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("scheduled", "pending"), ("queued", "pending"), ("starting", "pending"), ("running", "running"),
        ("succeeded", "completed"), ("failed", "failed"), ("lost", "failed"), ("timed_out", "stopped"),
        ("stopped", "stopped"), ("cancelled", "stopped"),
    ],
)  # fmt: skip
def test_each_state_has_one_of_the_five_words_of_the_seed(state, status):
    assert status_of(ScriptState(state)) == status
    assert status in STATUSES


def test_the_five_words_divide_the_states_among_them():
    found = [state for status in STATUSES for state in states_of(status)]

    assert sorted(found) == sorted(ScriptState)


def test_a_word_that_is_none_of_the_five_stands_for_no_state():
    assert states_of("succeeded") == ()


def test_an_event_reads_as_one_line_with_the_facts_that_are_known():
    detail = {"exit_code": 3, "reason": None}
    event = Event(seq=1, job_id=new_job_id(), attempt=1, time=0.0, kind=EventKind.EXITED, detail=detail)

    assert str(event) == "exited exit_code=3"


def test_every_reason_has_a_sentence():
    assert set(EXPLANATION) == set(Reason)
    assert all(text.endswith(".") for text in EXPLANATION.values())
