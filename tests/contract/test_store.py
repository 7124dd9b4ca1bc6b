"""What the store ports promise, on the real SQLite adapter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.job import Outcome
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.states import EventKind, ScriptState, VmState, Wish
from magpie_local.errors import IllegalTransition, InvalidInput, JobNotFound, LeadershipLost
from magpie_local.store import open_store

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.domain.layout import Layout
    from magpie_local.store import Store
    from magpie_local.testing.clock import ManualClock

E, S, V = EventKind, ScriptState, VmState

SUCCESS = Outcome(kind=E.EXITED, state=S.SUCCEEDED, exit_code=0)


async def add(store: Store, name: str = "job", **fields: object) -> JobRecord:
    spec = JobSpec(name=name, script=b"true", **fields)  # type: ignore[arg-type]
    [job] = await store.jobs.add([(new_job_id(), spec)])
    return job


async def claim(store: Store, job_id: JobId) -> Attempt:
    claimed = await store.leader.claim(job_id, boot_id="boot")
    assert claimed is not None
    job, attempt = claimed
    assert (job.id, job.script_state, job.attempt) == (job_id, ScriptState.STARTING, attempt.number)
    return attempt


async def start(store: Store, *events: EventKind) -> Attempt:
    """Return the attempt of a new job that has seen `events`."""
    attempt = await claim(store, (await add(store)).id)
    for event in events:
        await store.leader.record(attempt, event)
    return attempt


async def run(store: Store, outcome: Outcome = SUCCESS) -> JobRecord:
    """Return a job that ran to `outcome` and whose VM has gone."""
    attempt = await start(store, E.VM_BOOTING, E.VM_READY, E.STARTED)
    await store.leader.finish(attempt, outcome)
    job = await store.leader.record(attempt, E.VM_GONE)
    assert job is not None
    return job


async def kinds(store: Store, job_id: JobId) -> list[EventKind]:
    return [event.kind for event in await store.jobs.story(job_id)]


# Accepting and reading


async def test_an_added_job_is_queued_and_reads_back_as_it_was_returned(store: Store) -> None:
    job = await add(store, "build", env={"A": "1"}, timeout=5, vcpus=2, description="why")
    assert (job.script_state, job.vm_state, job.attempt) == (S.QUEUED, V.NONE, 0)
    assert await store.jobs.get(job.id) == job
    assert await kinds(store, job.id) == [E.ACCEPTED]


async def test_an_unknown_job_reads_as_none_and_its_script_is_a_typed_error(store: Store) -> None:
    assert await store.jobs.get(new_job_id()) is None
    assert await store.jobs.story(new_job_id()) == []
    with pytest.raises(JobNotFound):
        await store.jobs.inputs(new_job_id())


async def test_jobs_of_one_call_are_accepted_all_or_none(store: Store) -> None:
    job_id = new_job_id()
    spec = JobSpec(name="twin", script=b"true")
    with pytest.raises(InvalidInput, match="exists already"):
        await store.jobs.add([(new_job_id(), spec), (job_id, spec), (job_id, spec)])
    assert await store.jobs.page(limit=10) == []


async def test_adding_nothing_is_nothing(store: Store) -> None:
    assert await store.jobs.add([]) == []


async def test_concurrent_adds_all_happen_although_one_of_them_is_refused(store: Store) -> None:
    twin = new_job_id()
    ids = [twin, *(new_job_id() for _ in range(20)), twin]
    spec = JobSpec(name="many", script=b"true")
    results = await asyncio.gather(*(store.jobs.add([(one, spec)]) for one in ids), return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, Exception)] == [InvalidInput]
    assert {job.id for job in await store.jobs.page(limit=100)} == set(ids)


async def test_a_script_comes_back_byte_for_byte(store: Store) -> None:
    script = bytes(range(1, 256)) * 40_000
    [job] = await store.jobs.add([(new_job_id(), JobSpec(name="bytes", script=script))])
    assert (await store.jobs.inputs(job.id)).script == script


async def test_a_job_is_still_there_after_closing_and_opening(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock) as store:
        job = await add(store)
        state_id = store.state_id
    async with open_store(layout, clock) as store:
        assert await store.jobs.get(job.id) == job
        assert store.state_id == state_id


async def test_another_open_store_sees_a_job_at_once_and_notices_the_change(
    store: Store, layout: Layout, clock: ManualClock
) -> None:
    async with open_store(layout, clock) as other:
        before = await other.version()
        job = await add(store)
        assert await other.version() != before
        assert await other.jobs.get(job.id) == job


async def test_the_version_rests_while_nothing_happens(store: Store) -> None:
    job = await add(store)
    await store.leader.waiting(job.id, "no memory")
    before = await store.version()
    await store.leader.waiting(job.id, "no memory")
    await store.jobs.page(limit=10)
    assert await store.version() == before


# Pages


async def test_pages_are_newest_first_and_continue_at_an_offset_or_before_a_job(store: Store) -> None:
    jobs = [await add(store, f"job {number}") for number in range(7)]
    newest = [job.id for job in reversed(jobs)]
    assert [job.id for job in await store.jobs.page(limit=3)] == newest[:3]
    assert [job.id for job in await store.jobs.page(limit=3, offset=2)] == newest[2:5]
    assert [job.id for job in await store.jobs.page(limit=3, before=jobs[3].seq)] == newest[4:7]


async def test_a_page_of_several_states_is_one_list_newest_first(store: Store) -> None:
    failure = Outcome(kind=E.EXITED, state=S.FAILED, exit_code=1)
    jobs = [await run(store, outcome) for outcome in (SUCCESS, failure, SUCCESS, failure)]
    await add(store)
    page = await store.jobs.page(limit=2, offset=1, states=[S.SUCCEEDED, S.FAILED])
    assert [job.id for job in page] == [jobs[2].id, jobs[1].id]
    older = await store.jobs.page(limit=9, states=[S.FAILED], before=jobs[3].seq)
    assert [job.id for job in older] == [jobs[1].id]


async def test_a_page_past_the_end_is_empty(store: Store) -> None:
    await add(store)
    assert await store.jobs.page(limit=5, offset=5) == []
    assert await store.jobs.page(limit=5, states=[S.LOST]) == []


async def test_counts_tell_of_jobs_that_are_not_final(store: Store) -> None:
    await run(store)
    await add(store)
    await add(store)
    await start(store)
    assert await store.jobs.counts() == {S.QUEUED: 2, S.STARTING: 1}


# The leader's course of a job


async def test_the_queue_is_oldest_first(store: Store) -> None:
    jobs = [await add(store) for _ in range(4)]
    await claim(store, jobs[0].id)
    assert [job.id for job in await store.leader.queue(2)] == [jobs[1].id, jobs[2].id]


async def test_a_job_is_claimed_once(store: Store, clock: ManualClock) -> None:
    job = await add(store)
    attempt = await claim(store, job.id)
    assert (attempt.number, attempt.claimed_at, attempt.boot_id) == (1, clock.now(), "boot")
    assert await store.leader.claim(job.id, boot_id="boot") is None
    assert await store.leader.claim(new_job_id(), boot_id="boot") is None


async def test_each_attempt_has_its_own_vm_and_nonce(store: Store) -> None:
    first = await start(store, E.REQUEUED)
    second = await claim(store, first.job_id)
    assert second.number == 2
    assert second.vm_id != first.vm_id
    assert second.nonce != first.nonce


async def test_events_set_the_times_that_belong_to_them(store: Store, clock: ManualClock) -> None:
    attempt = await start(store)
    for event in (E.VM_BOOTING, E.VM_READY, E.STARTED):
        clock.advance(1)
        await store.leader.record(attempt, event, accelerator="tcg" if event is E.VM_BOOTING else None)
    [(job, stored)] = await store.leader.unsettled()
    assert (stored.vm_started_at, stored.ready_at, stored.started_at) == (1001.0, 1002.0, 1003.0)
    assert stored.intended
    assert (job.script_state, job.vm_state, job.started_at) == (S.RUNNING, V.READY, 1003.0)
    assert (job.accelerator, stored.accelerator) == ("tcg", "tcg")


async def test_a_start_that_the_guest_timed_keeps_the_guests_time(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING, E.VM_READY)
    job = await store.leader.record(attempt, E.STARTED, {"at": 900.5})
    assert job is not None
    assert job.started_at == 900.5


async def test_a_run_from_claim_to_gone_leaves_a_settled_job_and_its_whole_story(store: Store) -> None:
    job = await run(store)
    assert job.is_settled
    assert (job.script_state, job.vm_state, job.exit_code, job.finished_at) == (S.SUCCEEDED, V.GONE, 0, 1000.0)
    assert await kinds(store, job.id) == [
        E.ACCEPTED, E.CLAIMED, E.VM_BOOTING, E.VM_READY, E.STARTED, E.EXITED, E.VM_GONE,
    ]  # fmt: skip
    assert await store.leader.unsettled() == []


async def test_an_illegal_event_changes_nothing_and_tells_the_story(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING)
    before = await store.jobs.get(attempt.job_id)
    with pytest.raises(IllegalTransition, match=r"(?s)booting.*claimed.*vm_booting"):
        await store.leader.record(attempt, E.VM_BOOTING)
    assert await store.jobs.get(attempt.job_id) == before
    assert await kinds(store, attempt.job_id) == [E.ACCEPTED, E.CLAIMED, E.VM_BOOTING]


async def test_an_event_that_only_tells_moves_no_state(store: Store) -> None:
    attempt = await start(store)
    before = await store.jobs.get(attempt.job_id)
    after = await store.leader.record(attempt, E.NOTE, {"text": "slow", "seconds": 1.5, "again": False, "x": None})
    assert after == before
    note = (await store.jobs.story(attempt.job_id))[-1]
    assert note.detail == {"text": "slow", "seconds": 1.5, "again": False, "x": None}


async def test_events_of_an_older_attempt_or_a_deleted_job_are_ignored(store: Store) -> None:
    old = await start(store, E.REQUEUED)
    await claim(store, old.job_id)
    assert await store.leader.record(old, E.VM_BOOTING) is None
    assert await store.leader.finish(old, SUCCESS) is None
    gone = await start(store, E.REQUEUED)
    assert await store.jobs.delete(gone.job_id)
    assert await store.leader.record(gone, E.NOTE) is None


async def test_a_final_state_is_written_once(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING, E.VM_READY, E.STARTED)
    first = await store.leader.finish(attempt, SUCCESS)
    again = await store.leader.finish(attempt, Outcome(kind=E.LOST, state=S.LOST, reason="vm_killed"))
    assert again == first
    assert (await kinds(store, attempt.job_id)).count(E.EXITED) == 1


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(kind=E.EXITED, state=S.FAILED, exit_code=7, started_at=1001.0, ended_at=1003.0),
        Outcome(kind=E.TIMED_OUT, state=S.TIMED_OUT, started_at=1001.0, ended_at=1003.0),
        Outcome(kind=E.STOPPED, state=S.STOPPED, exit_code=143, started_at=1001.0, ended_at=1003.0),
    ],
    ids=lambda outcome: outcome.kind,
)
async def test_an_exit_record_found_while_starting_makes_up_for_the_start(store: Store, outcome: Outcome) -> None:
    attempt = await start(store, E.VM_BOOTING)
    job = await store.leader.finish(attempt, outcome)
    assert job is not None
    assert (job.script_state, job.exit_code) == (outcome.state, outcome.exit_code)
    assert (job.started_at, job.finished_at) == (1001.0, 1003.0)
    assert (await kinds(store, job.id))[-2:] == [E.STARTED, outcome.kind]


async def test_a_failure_before_the_script_began_has_no_start(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING)
    failure = Outcome(kind=E.FAILED, state=S.FAILED, reason="boot_timeout", message="no agent")
    job = await store.leader.finish(attempt, failure)
    assert job is not None
    assert (job.script_state, job.started_at, job.reason, job.message) == (S.FAILED, None, "boot_timeout", "no agent")


async def test_a_guest_clock_that_runs_behind_gives_no_negative_duration(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING, E.VM_READY, E.STARTED)
    job = await store.leader.finish(attempt, Outcome(kind=E.EXITED, state=S.SUCCEEDED, exit_code=0, ended_at=10.0))
    assert job is not None
    assert job.finished_at == job.started_at == 1000.0


async def test_a_finished_job_stays_unsettled_until_its_vm_has_gone(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING, E.VM_READY, E.STARTED)
    await store.leader.finish(attempt, SUCCESS)
    [(job, newest)] = await store.leader.unsettled()
    assert (job.script_state, newest.number) == (S.SUCCEEDED, 1)


# Who leads


async def test_a_write_of_a_former_leader_is_refused_and_changes_nothing(
    store: Store, layout: Layout, clock: ManualClock
) -> None:
    attempt = await start(store)
    async with open_store(layout, clock) as successor:
        await successor.leader.lead()
        with pytest.raises(LeadershipLost):
            await store.leader.finish(attempt, SUCCESS)
        with pytest.raises(LeadershipLost):
            await store.leader.waiting(None, None)
        job = await successor.leader.record(attempt, E.VM_BOOTING)
    assert job is not None
    assert (job.script_state, job.vm_state) == (S.STARTING, V.BOOTING)


async def test_nobody_leads_without_taking_the_lead(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock) as store:
        job = await add(store)
        with pytest.raises(LeadershipLost):
            await store.leader.claim(job.id, boot_id="boot")


async def test_the_reason_to_wait_stands_at_one_job_and_goes_with_its_claim(store: Store) -> None:
    first, second = await add(store), await add(store)
    await store.leader.waiting(first.id, "no memory")
    await store.leader.waiting(second.id, "no CPU")
    waiting = [job.waiting for job in await store.leader.queue(2)]
    assert waiting == [None, "no CPU"]
    attempt = await claim(store, second.id)
    job = await store.jobs.get(attempt.job_id)
    assert job is not None
    assert job.waiting is None


# Stop and delete


async def test_stopping_a_queued_job_cancels_it_at_once(store: Store) -> None:
    job = await store.jobs.request_stop((await add(store)).id)
    assert job is not None
    assert (job.script_state, job.finished_at) == (S.CANCELLED, 1000.0)
    assert job.is_settled


async def test_stopping_an_active_job_leaves_one_request_however_often(store: Store, clock: ManualClock) -> None:
    attempt = await start(store, E.VM_BOOTING)
    first = await store.jobs.request_stop(attempt.job_id)
    clock.advance(5)
    assert await store.jobs.request_stop(attempt.job_id) == first
    assert [job.id for job in await store.leader.requested()] == [attempt.job_id]
    assert (await kinds(store, attempt.job_id)).count(E.STOP_REQUESTED) == 1


async def test_stopping_a_final_or_unknown_job_changes_nothing(store: Store) -> None:
    job = await run(store)
    assert await store.jobs.request_stop(job.id) == job
    assert await store.jobs.request_stop(new_job_id()) is None


async def test_a_stop_request_is_done_with_when_the_job_has_ended(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING)
    await store.jobs.request_stop(attempt.job_id)
    await store.leader.finish(attempt, Outcome(kind=E.STOPPED, state=S.STOPPED))
    assert await store.leader.requested() == []


async def kept(store: Store) -> tuple[JobRecord, Attempt]:
    """Return a persistent job whose script has ended, with its attempt."""
    job = await add(store, persistent=True)
    attempt = await claim(store, job.id)
    for event in (E.VM_BOOTING, E.VM_READY, E.STARTED):
        await store.leader.record(attempt, event)
    ended = await store.leader.finish(attempt, SUCCESS)
    assert ended is not None
    return ended, attempt


async def test_the_newest_wish_to_a_vm_counts_and_is_done_with_when_it_is_granted(store: Store) -> None:
    job, attempt = await kept(store)
    assert job.wish is None
    for wish in (Wish.WAKE, Wish.SLEEP, Wish.SLEEP):
        asked = await store.jobs.ask_vm(job.id, wish)
        assert asked is not None
        assert asked.wish is wish
    assert [one.id for one in await store.leader.requested()] == [job.id]
    assert (await kinds(store, job.id))[-2:] == [E.WAKE_REQUESTED, E.SLEEP_REQUESTED]
    asleep = await store.leader.record(attempt, E.VM_ASLEEP)
    assert asleep is not None
    assert (asleep.vm_state, asleep.wish, asleep.is_kept, asleep.is_settled) == (VmState.ASLEEP, None, True, False)
    assert await store.leader.requested() == []
    assert [one.id for one, _ in await store.leader.unsettled()] == [job.id]
    assert await store.jobs.ask_vm(job.id, Wish.SLEEP) == asleep
    await store.jobs.ask_vm(job.id, Wish.WAKE)
    woken = await store.leader.record(attempt, E.VM_WOKEN)
    assert woken is not None
    # Somebody must see to it that it can be reached.
    assert (woken.vm_state, woken.wish, woken.is_attended) == (VmState.READY, Wish.WAKE, True)
    awake = await store.leader.record(attempt, E.VM_REACHABLE)
    assert awake is not None
    assert (awake.vm_state, awake.wish) == (VmState.READY, None)


async def test_a_wish_to_wake_outlives_the_end_of_falling_asleep(store: Store) -> None:
    job, attempt = await kept(store)
    await store.jobs.ask_vm(job.id, Wish.WAKE)
    asleep = await store.leader.record(attempt, E.VM_ASLEEP)
    assert asleep is not None
    assert asleep.wish is Wish.WAKE


async def test_a_stop_takes_wishes_away_and_nobody_asks_a_vm_that_is_not_kept(store: Store) -> None:
    job, _ = await kept(store)
    await store.jobs.ask_vm(job.id, Wish.SLEEP)
    stopped = await store.jobs.request_stop(job.id)
    assert stopped is not None
    assert stopped.wish is None
    for other in (job.id, (await add(store)).id):
        asked = await store.jobs.ask_vm(other, Wish.WAKE)
        assert asked is not None
        assert asked.wish is None
    assert await store.jobs.ask_vm(new_job_id(), Wish.WAKE) is None


async def test_a_requeued_job_that_is_asked_to_stop_is_cancelled(store: Store) -> None:
    attempt = await start(store)
    await store.jobs.request_stop(attempt.job_id)
    job = await store.leader.record(attempt, E.REQUEUED)
    assert job is not None
    assert job.script_state is S.CANCELLED
    assert job.is_settled


async def test_deleting_a_settled_job_removes_every_row_of_it(store: Store) -> None:
    job = await run(store)
    assert await store.jobs.delete(job.id)
    assert await store.jobs.get(job.id) is None
    assert await store.jobs.story(job.id) == []


async def test_deleting_a_queued_or_unknown_job_is_done_at_once(store: Store) -> None:
    job = await add(store)
    assert await store.jobs.delete(job.id)
    assert await store.jobs.delete(job.id)
    assert await store.leader.queue(1) == []


async def test_deleting_an_active_job_asks_it_to_stop_and_is_done_when_it_is_settled(store: Store) -> None:
    attempt = await start(store, E.VM_BOOTING)
    assert not await store.jobs.delete(attempt.job_id)
    assert not await store.jobs.delete(attempt.job_id)
    assert (await kinds(store, attempt.job_id))[-2:] == [E.STOP_REQUESTED, E.DELETE_REQUESTED]
    await store.leader.finish(attempt, Outcome(kind=E.STOPPED, state=S.STOPPED))
    assert not await store.jobs.delete(attempt.job_id)
    await store.leader.record(attempt, E.VM_GONE)
    assert [job.id for job in await store.leader.requested()] == [attempt.job_id]
    assert await store.jobs.delete(attempt.job_id)
    assert await store.leader.requested() == []
