"""A client's life: how it is opened, shared, interrupted, forked and closed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import warnings
from dataclasses import replace

import pytest

from magpie_local import AsyncMagpie, InvalidInput, Magpie, StateError, WaitTimeout, config
from magpie_local.errors import ClientClosed

FOREVER = "echo begin; sleep 600"


def interrupt_soon(seconds: float = 0.3) -> None:
    """Press Ctrl-C in a while."""
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(seconds, signal.pthread_kill, [main, signal.SIGINT]).start()


def test_the_key_and_the_address_of_the_cloud_are_taken_and_ignored(settings):
    with Magpie("key", "https://magpie.example", settings=settings) as client:
        assert client.jobs.list() == []


def test_a_client_shows_its_state_directory_and_not_its_key(settings):
    with Magpie(api_key="hunter2", settings=settings) as client:
        assert repr(client) == f"<Magpie {str(settings.home)!r}>"


def test_settings_and_a_state_directory_at_once_are_refused(settings):
    with pytest.raises(InvalidInput, match="state_dir"):
        Magpie(settings=settings, state_dir="/tmp")


def test_the_state_directory_may_be_an_argument(settings, monkeypatch):
    monkeypatch.setenv("MAGPIE_HYPERVISOR", "fake")
    monkeypatch.setenv("MAGPIE_KEEPER", "false")

    with Magpie(state_dir=settings.home) as client:
        assert client.settings.home == settings.home


def test_a_state_directory_that_is_a_file_is_refused_at_once(settings):
    settings.home.write_text("not a folder")
    began = time.monotonic()

    with pytest.raises(StateError):
        Magpie(settings=settings)

    assert time.monotonic() - began < 5
    settings.home.unlink()


def test_after_a_refusal_the_next_client_works(settings):
    settings.home.write_text("not a folder")
    with pytest.raises(StateError):
        Magpie(settings=settings)
    settings.home.unlink()

    with Magpie(settings=settings) as client:
        assert client.jobs.list() == []


def test_a_closed_client_says_so_and_closes_twice(settings):
    client = Magpie(settings=settings)
    client.close()
    client.close()

    with pytest.raises(ClientClosed, match="closed"):
        client.jobs.list()


def test_clients_of_one_state_directory_share_one_engine(settings):
    with Magpie(settings=settings) as one:
        engines = [thread for thread in threading.enumerate() if thread.name == "magpie engine"]
        with Magpie(settings=settings) as other:
            assert other.jobs.run_and_wait("job", "true", memory_mb=64).success
        assert [thread for thread in threading.enumerate() if thread.name == "magpie engine"] == engines
        assert one.jobs.run_and_wait("job", "true", memory_mb=64).success


def test_a_client_that_is_forgotten_takes_its_thread_along(settings):
    before = threading.active_count()
    client = Magpie(settings=settings)
    del client

    give_up = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < give_up:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_opening_and_closing_again_and_again_leaves_no_file_open(settings):
    Magpie(settings=settings).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        Magpie(settings=settings).close()

    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_leader_is_named(settings):
    with Magpie(settings=settings) as client:
        client.jobs.run_and_wait("job", "true", memory_mb=64)
        assert client.leader() == "this"
        with Magpie(settings=settings, lead=False) as reader:
            assert reader.leader() == "other"


def test_ctrl_c_ends_the_wait_and_neither_the_job_nor_the_client(settings):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", "sleep 4; echo done", memory_mb=64)
        interrupt_soon()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.jobs.wait(job.id)

        assert time.monotonic() - began < 3.5
        assert client.jobs.get(job.id).status in ("pending", "running")
        assert client.jobs.wait(job.id).status == "completed"
        assert client.jobs.get_logs(job.id) == "done\n"


def test_ctrl_c_inside_run_and_wait_leaves_the_job_running(settings):
    with Magpie(settings=settings) as client:
        interrupt_soon(0.6)
        with pytest.raises(KeyboardInterrupt):
            client.jobs.run_and_wait("job", FOREVER, memory_mb=64)

        (job,) = client.jobs.list()
        assert job.status in ("pending", "running")
        assert client.jobs.stop(job.id).status == "stopped"


def test_ctrl_c_ends_a_stream_and_the_next_one_is_whole(settings):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", "echo begin; sleep 1; echo end", memory_mb=64)
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            list(client.jobs.stream_logs(job.id))

        assert "".join(chunk.text for chunk in client.jobs.stream_logs(job.id)) == "begin\nend\n"


async def test_a_cancelled_wait_leaves_the_job_and_the_client(settings):
    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", "sleep 0.6; echo done", memory_mb=64)
        waiter = asyncio.create_task(client.jobs.wait(job.id))
        await asyncio.sleep(0.2)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

        assert (await client.jobs.wait(job.id)).status == "completed"


async def test_a_cancelled_stream_leaves_the_job_and_the_client(settings):
    async def follow(client: AsyncMagpie, job_id: str) -> list[str]:
        return [chunk.text async for chunk in client.jobs.stream_logs(job_id)]

    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", "echo begin; sleep 0.6; echo end", memory_mb=64)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(follow(client, job.id), 0.3)

        assert "".join(await follow(client, job.id)) == "begin\nend\n"


async def test_an_awaiting_client_does_not_hold_the_callers_loop(settings):
    async with AsyncMagpie(settings=settings) as client:
        turns = 0
        waiter = asyncio.create_task(client.jobs.run_and_wait("job", "sleep 0.3", memory_mb=64))
        while not waiter.done():
            await asyncio.sleep(0.01)
            turns += 1

        assert waiter.result().success
        assert turns > 10


async def test_a_blocking_client_works_inside_a_running_loop(settings):
    with Magpie(settings=settings) as client:
        assert client.jobs.run_and_wait("job", "true", memory_mb=64).success


def test_a_client_works_from_many_threads(settings):
    with Magpie(settings=settings) as client:
        ended: list[int | None] = []

        def run(number: int) -> None:
            ended.append(client.jobs.run_and_wait(f"job {number}", f"exit {number}", memory_mb=64).exit_code)

        threads = [threading.Thread(target=run, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert set(ended) == set(range(8))


def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on(settings):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", "sleep 0.3", memory_mb=64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn where threads exist
            child = os.fork()
        if child == 0:
            try:
                client.jobs.get(job.id)
            except ClientClosed:
                os._exit(42)
            finally:
                os._exit(1)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert client.jobs.wait(job.id).status == "completed"


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_stop_that_nobody_carries_out_gives_up_with_a_typed_error(settings, verb, monkeypatch):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", FOREVER, memory_mb=64)
        while client.jobs.get_status(job.id) != "running":
            time.sleep(0.02)
    monkeypatch.setattr("magpie_local.api.jobs._STOP_PATIENCE", 0.1)
    monkeypatch.setattr("magpie_local.api.runtime.start_keeper", lambda settings: None)

    with Magpie(settings=replace(settings, stop_grace=0.1), lead=False) as reader:
        options = {"force": True} if verb == "delete" else {}
        with pytest.raises(WaitTimeout, match=job.id):
            getattr(reader.jobs, verb)(job.id, **options)

        assert [event.kind.value for event in reader.jobs.story(job.id)].count("stop_requested") == 1


def test_the_environment_of_the_settings_makes_the_same_settings_again(settings):
    assert config.load(settings.environment()) == settings
