"""CPU and memory of jobs' VMs, through both clients: samples, followers, and what is kept of them."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import Any

import pytest

from magpie_local import AsyncMagpie, InvalidInput, JobNotFound, Magpie
from magpie_local.api import metrics
from magpie_local.domain.sizes import MIB

NOBODY = "00000000-0000-4000-8000-000000000000"
FOREVER = "echo begin; sleep 600"
BUSY = "while :; do :; done"


def gone(client: Any, job: Any) -> Any:
    """Return a job whose VM has gone; it is stopped where it goes on."""
    client.jobs.stop(job.id)
    give_up = time.monotonic() + 20
    while (now := client.jobs.get(job.id)).vm_state != "gone":
        assert time.monotonic() < give_up, f"its VM is {now.vm_state}"
        time.sleep(0.02)
    return now


def first(items: Any, count: int) -> list[Any]:
    return list(itertools.islice(items, count))


def test_a_job_with_a_vm_has_a_sample_of_now(client):
    job = client.running(FOREVER)
    began = time.time()

    (sample,) = client.jobs.metrics(job.id)

    assert began - 0.1 <= sample.time <= time.time()
    assert 0 <= sample.cpu < 5
    assert sample.cpu == pytest.approx(sample.cpu_seconds / sample.seconds)
    assert sample.memory > MIB
    gone(client, job)


def test_asking_again_adds_a_sample_of_the_time_since(client):
    job = client.running(FOREVER)
    client.jobs.metrics(job.id)
    time.sleep(0.15)

    before, now = client.jobs.metrics(job.id)

    assert now.seconds == pytest.approx(now.time - before.time, abs=0.01)
    assert now.cpu == pytest.approx((now.cpu_seconds - before.cpu_seconds) / now.seconds)
    gone(client, job)


def test_asking_all_the_time_gives_no_samples_of_a_moment(client):
    job = client.running(FOREVER)

    for _ in range(20):
        samples = client.jobs.metrics(job.id)

    assert all(sample.seconds >= metrics.SHORTEST for sample in samples[1:])
    gone(client, job)


def test_a_busy_job_uses_cpu_and_an_idle_one_none(client):
    busy, idle = client.running(BUSY), client.running(FOREVER)

    of_busy = max(sample.cpu for sample in first(client.jobs.stream_metrics(busy.id, 0.4), 6)[1:])
    of_idle = min(sample.cpu for sample in first(client.jobs.stream_metrics(idle.id, 0.4), 3)[1:])

    assert of_busy > 0.2 > of_idle
    gone(client, busy)
    gone(client, idle)


def test_samples_are_kept_after_the_vm_has_gone(client):
    job = client.running(FOREVER)
    before = client.jobs.metrics(job.id)

    gone(client, job)

    assert client.jobs.metrics(job.id)[: len(before)] == before


def test_a_job_that_nobody_looked_at_has_no_samples_afterwards(client):
    job = gone(client, client.running(FOREVER))

    assert client.jobs.metrics(job.id) == ()


def test_following_ends_when_the_vm_is_gone(client):
    job = client.running("sleep 1")

    samples = list(client.jobs.stream_metrics(job.id, 0.2))

    assert len(samples) >= 2
    assert all(later.time > sample.time for sample, later in itertools.pairwise(samples))
    assert all(sample.seconds >= 0.2 for sample in samples[1:])
    assert all(
        later.seconds == pytest.approx(later.time - sample.time, abs=0.01)
        for sample, later in itertools.pairwise(samples)
    )


def test_a_follower_with_a_long_interval_sees_the_end_at_once(client):
    job = client.running("sleep 0.5")
    began = time.monotonic()

    samples = list(client.jobs.stream_metrics(job.id, 3600))

    assert len(samples) == 1
    assert time.monotonic() - began < 15


def test_a_job_that_has_ended_has_nothing_to_follow(client):
    job = gone(client, client.running(FOREVER))

    assert list(client.jobs.stream_metrics(job.id)) == []


def test_two_followers_each_see_the_whole_time(client):
    job = client.running(FOREVER)
    one, two = client.jobs.stream_metrics(job.id, 0.3), client.jobs.stream_metrics(job.id, 0.3)

    turns = [(next(one), next(two)) for _ in range(4)][1:]

    assert all(sample.seconds >= 0.3 for turn in turns for sample in turn)
    gone(client, job)


def test_what_is_kept_of_many_followers_is_no_closer_than_the_kernel_counts(client):
    job = client.running(FOREVER)
    streams = [client.jobs.stream_metrics(job.id, metrics.SHORTEST) for _ in range(4)]

    for stream in streams * 3:
        next(stream)
    kept = client.jobs.metrics(job.id)

    assert len(kept) >= 3
    assert all(later.time - sample.time > metrics.SHORTEST - 0.01 for sample, later in itertools.pairwise(kept))
    gone(client, job)


def test_a_new_follower_begins_where_the_last_one_left(client):
    job = client.running(FOREVER)
    seen = first(client.jobs.stream_metrics(job.id, 0.2), 3)
    time.sleep(0.2)

    (sample,) = first(client.jobs.stream_metrics(job.id, 0.2), 1)

    assert sample.seconds == pytest.approx(sample.time - seen[-1].time, abs=0.01)
    gone(client, job)


@pytest.mark.parametrize("interval", [0, 0.05, -1, 3601, float("nan"), float("inf"), True, "1", None])
def test_an_interval_is_a_sensible_number_of_seconds(client, interval):
    with pytest.raises(InvalidInput, match="interval"):
        first(client.jobs.stream_metrics(NOBODY, interval), 1)


def test_unknown_jobs_are_told(client):
    with pytest.raises(JobNotFound):
        client.jobs.metrics(NOBODY)
    with pytest.raises(JobNotFound):
        first(client.jobs.stream_metrics(NOBODY), 1)
    with pytest.raises(JobNotFound):
        client.monitoring.usage([NOBODY])
    with pytest.raises(JobNotFound, match="looks like"):
        client.jobs.metrics("no id")


def test_usage_is_of_all_that_have_a_vm_or_of_the_named_ones(client):
    one, two = client.running(FOREVER), client.running(FOREVER)
    ended = gone(client, client.running(FOREVER))

    whole = {usage.job.id: usage.sample for usage in client.monitoring.usage()}
    named = client.monitoring.usage([ended.id, two.id])

    assert whole.keys() >= {one.id, two.id}
    assert ended.id not in whole
    assert whole[one.id].memory > MIB
    assert [(usage.job.id, usage.sample is None) for usage in named] == [(ended.id, True), (two.id, False)]
    assert named[1].to_json()["sample"]["memory"] > MIB
    assert named[0].to_json()["sample"] is None
    gone(client, one)
    gone(client, two)


def test_a_job_that_is_deleted_ends_its_followers(client):
    job = client.running(FOREVER)
    stream = client.jobs.stream_metrics(job.id, 0.1)
    next(stream)

    client.jobs.delete(job.id, force=True)

    assert len(list(stream)) < 50


def test_a_follower_that_waits_for_a_vm_gets_it(settings):
    with Magpie(settings=settings) as client:
        blocking = client.jobs.create("job", FOREVER, vcpus=16, memory_mb=64)
        waiting = client.jobs.create("job", FOREVER, vcpus=16, memory_mb=64)
        found: list[Any] = []
        follower = threading.Thread(
            target=lambda: found.extend(first(client.jobs.stream_metrics(waiting.id, 3600), 1)), daemon=True
        )
        follower.start()
        client.jobs.delete(blocking.id, force=True)
        follower.join(20)

        assert not follower.is_alive()
        assert found[0].memory > MIB
        assert found[0].seconds < 20


def test_a_process_that_does_not_lead_sees_the_same(settings):
    with Magpie(settings=settings) as leader, Magpie(settings=settings, lead=False) as other:
        job = leader.jobs.create("job", FOREVER, memory_mb=64)
        (sample,) = first(other.jobs.stream_metrics(job.id, 1), 1)

        assert other.leader() == "other"
        assert sample.memory > MIB


def test_a_stream_may_be_left_after_its_client(settings):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", FOREVER, memory_mb=64)
        stream = client.jobs.stream_metrics(job.id)
        next(stream)
    stream.close()

    assert next(stream, None) is None


async def test_an_awaited_stream_may_be_left_after_its_client(settings):
    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", FOREVER, memory_mb=64)
        stream = client.jobs.stream_metrics(job.id)
        await anext(stream)
    await stream.aclose()

    assert await anext(stream, None) is None


async def test_a_follower_that_is_cancelled_leaves_nothing_behind(settings):
    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", FOREVER, memory_mb=64)
        stream = client.jobs.stream_metrics(job.id, 3600)
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        (sample,) = await client.jobs.metrics(job.id)
        assert sample.memory > MIB


def test_only_the_last_samples_are_kept(settings, monkeypatch):
    monkeypatch.setattr(metrics, "KEPT", 3)
    monkeypatch.setattr(metrics, "SHORTEST", 0.0)
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", FOREVER, memory_mb=64)
        first(client.jobs.stream_metrics(job.id, 0.01), 1)
        times = [client.jobs.metrics(job.id)[-1].time for _ in range(5)]

        assert [sample.time for sample in client.jobs.metrics(job.id)][:2] == times[-2:]
