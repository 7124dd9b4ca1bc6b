"""Jobs as handles: what a client returned can be waited for, read and stopped; what was copied can't."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time

import pytest

from magpie_local import AsyncMagpie, Magpie
from magpie_local.errors import ClientClosed


@pytest.fixture
def blocking(settings):
    with Magpie(settings=settings) as client:
        yield client


def test_a_job_waits_and_reads_by_itself(blocking):
    job = blocking.jobs.create("job", "echo one; echo two", memory_mb=64)

    ended = job.wait(timeout=20)

    assert (ended.status, ended.logs(), ended.logs(tail=1)) == ("completed", "one\ntwo\n", "two\n")
    assert "".join(chunk.text for chunk in job.logs(follow=True)) == "one\ntwo\n"
    assert not job.is_final
    assert job.refresh().is_final


def test_a_job_stops_by_itself(blocking):
    job = blocking.jobs.create("job", "sleep 600", memory_mb=64)

    assert job.stop().status == "stopped"


def test_the_tie_is_neither_compared_nor_shown_nor_copied(blocking):
    job = blocking.jobs.run_and_wait("job", "true", memory_mb=64)

    for other in (pickle.loads(pickle.dumps(job)), copy.copy(job)):
        assert other == job
        assert repr(other) == repr(job)
        with pytest.raises(ClientClosed, match="has no client"):
            other.wait()
    assert blocking.jobs.list()[0].logs() == ""


async def test_a_job_of_either_client_can_be_awaited(settings):
    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", "echo done", memory_mb=64)

        assert (await job).status == "completed"
        assert await job.logs() == "done\n"
        assert [chunk.text async for chunk in job.logs(follow=True)] == ["done\n"]
        other = Magpie(settings=settings)
        assert (await other.jobs.get(job.id)).status == "completed"
        other.close()


async def test_awaiting_leaves_the_loop_free_and_a_cancelled_wait_leaves_the_job(settings):
    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", "sleep 600", memory_mb=64)
        began = time.monotonic()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await job

        assert time.monotonic() - began < 2
        assert not (await job.refresh()).is_final
        await job.stop()
