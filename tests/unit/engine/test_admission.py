from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.states import ScriptState, VmState
from magpie_local.engine.admission import Capacity, admit

HOST = Capacity(cpus=4, memory_mb=2048)

WANTS = st.tuples(st.integers(1, 6), st.integers(64, 3000))


def test_everything_that_fits_starts_in_order(a_job):
    queue = [a_job(seq=seq) for seq in (1, 2, 3)]

    admission = admit(queue, [], HOST)

    assert admission.start == tuple(queue)
    assert (admission.blocked, admission.reason) == (None, None)


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        ({"vcpus": 2}, "waits for CPUs: wants 2, 1 of 4 are free"),
        ({"memory_mb": 1025}, "waits for memory: wants 1025 MiB, 1024 of 2048 MiB are free"),
    ],
)
def test_the_first_that_does_not_fit_waits_and_says_why(a_job, wants, reason):
    running = [a_job(vcpus=3, memory_mb=1024)]
    large = a_job(**{"memory_mb": 64, **wants})

    admission = admit([large], running, HOST)

    assert (admission.start, admission.blocked, admission.reason) == ((), large, reason)


def test_a_small_job_does_not_overtake_a_large_one_that_waits(a_job):
    running = [a_job(vcpus=3)]
    large, small = a_job(vcpus=4), a_job(vcpus=1)

    assert admit([large, small], running, HOST).start == ()


def test_a_job_larger_than_the_host_starts_when_nothing_else_runs(a_job):
    huge = a_job(vcpus=64, memory_mb=10**6)

    assert admit([huge], [], HOST).start == (huge,)


def test_a_job_larger_than_the_host_waits_for_all_others(a_job):
    huge = a_job(vcpus=64)

    admission = admit([huge], [a_job()], HOST)

    assert admission.blocked is huge


def test_nothing_starts_beside_a_job_larger_than_the_host(a_job):
    huge, small = a_job(vcpus=64), a_job()

    admission = admit([huge, small], [], HOST)

    assert admission.start == (huge,)
    assert admission.reason == "waits for CPUs: wants 1, 0 of 4 are free"


@given(queue=st.lists(WANTS, max_size=12), running=st.lists(WANTS, max_size=4))
def test_capacity_and_order_hold_for_any_queue(a_job, queue, running):
    jobs = [a_job(vcpus=cpus, memory_mb=memory) for cpus, memory in queue]
    used = [a_job(vcpus=cpus, memory_mb=memory) for cpus, memory in running]

    admission = admit(jobs, used, HOST)

    count = len(admission.start)
    together = [*used, *admission.start]
    fits = sum(job.vcpus for job in together) <= HOST.cpus and sum(job.memory_mb for job in together) <= HOST.memory_mb
    assert list(admission.start) == jobs[:count]
    assert fits or not admission.start or len(together) == 1
    assert admission.blocked is (jobs[count] if count < len(jobs) else None)
    assert (admission.reason is None) == (admission.blocked is None)


@given(queue=st.lists(WANTS, min_size=1, max_size=12))
def test_the_head_of_the_queue_always_starts_on_an_idle_host(a_job, queue):
    jobs = [a_job(vcpus=cpus, memory_mb=memory) for cpus, memory in queue]

    assert admit(jobs, [], HOST).start[:1] == (jobs[0],)


def kept(a_job: Any, **fields: Any) -> Any:
    return a_job(persistent=True, script_state=ScriptState.SUCCEEDED, exit_code=0, vm_state=VmState.READY, **fields)


def test_persistent_vms_whose_script_has_ended_take_memory_and_no_cpu(a_job):
    idle = [kept(a_job, vcpus=2, memory_mb=256) for _ in range(4)]
    job = a_job(vcpus=4, memory_mb=1024)

    assert admit([job], idle, HOST).start == (job,)
    assert admit([a_job(memory_mb=1025)], idle, HOST).reason == (
        "waits for memory: wants 1025 MiB, 1024 of 2048 MiB are free"
    )
    assert admit([a_job(vcpus=2)], [*idle, a_job(vcpus=3)], HOST).reason == "waits for CPUs: wants 2, 1 of 4 are free"
