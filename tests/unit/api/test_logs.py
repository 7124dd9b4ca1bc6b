"""Reading logs, through both faces."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from magpie_local import AsyncMagpie, InvalidInput, Magpie

SLOWLY = "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done"
LINES = "".join(f"line {number}\n" for number in range(1, 6))


def run(client: Any, script: str, **fields: Any) -> Any:
    return client.jobs.run_and_wait("job", script, memory_mb=64, **fields)


def test_both_streams_are_in_the_log_in_order(client):
    job = run(client, "echo out; sleep 0.1; echo err >&2; sleep 0.1; echo out")

    assert client.jobs.get_logs(job.id) == "out\nerr\nout\n"


def test_each_piece_knows_its_stream_and_its_time(client):
    job = run(client, "echo out; sleep 0.1; echo err >&2")

    chunks = list(client.jobs.stream_logs(job.id))

    assert [(chunk.stream, chunk.data) for chunk in chunks] == [("stdout", b"out\n"), ("stderr", b"err\n")]
    assert chunks[0].time < chunks[1].time <= time.time()


def test_the_tail_is_the_last_lines(client):
    job = run(client, "for i in 1 2 3 4 5; do echo line $i; done")

    counts = {tail: client.jobs.get_logs(job.id, tail=tail).count("\n") for tail in (0, 1, 2, 5, 50, 2**53)}

    assert counts == {0: 0, 1: 1, 2: 2, 5: 5, 50: 5, 2**53: 5}
    assert client.jobs.get_logs(job.id, tail=2) == "line 4\nline 5\n"
    assert client.jobs.get_logs(job.id, tail=None) == LINES


def test_a_last_line_without_its_end_counts_as_a_line(client):
    job = run(client, "echo one; printf two")

    assert client.jobs.get_logs(job.id, tail=1) == "two"


def test_lines_end_where_the_terminal_ends_them(client):
    job = run(client, r"printf 'a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\nlast\n'")

    assert client.jobs.get_logs(job.id, tail=1) == "last\n"
    assert client.jobs.get_logs(job.id, tail=2) == client.jobs.get_logs(job.id)


@pytest.mark.parametrize("tail", [-1, 1.5, "5", True])
def test_a_bad_tail_is_refused(client, tail):
    with pytest.raises(InvalidInput, match="tail"):
        client.jobs.get_logs(str(uuid.uuid4()), tail=tail)


def test_a_silent_job_has_an_empty_log(client):
    job = run(client, "true")

    assert client.jobs.get_logs(job.id) == ""
    assert list(client.jobs.stream_logs(job.id)) == []


def test_bytes_are_kept_and_text_replaces_what_is_no_text(client):
    job = run(client, r"printf 'caf\xe9\x00 \xf0\x9f\x90\xa6\n'")

    (chunk,) = client.jobs.stream_logs(job.id)

    assert chunk.data == b"caf\xe9\x00 \xf0\x9f\x90\xa6\n"
    assert chunk.text == client.jobs.get_logs(job.id) == "caf\N{REPLACEMENT CHARACTER}\0 🐦\n"


def test_a_character_that_is_split_between_two_writes_is_whole_in_the_text(client):
    job = run(client, r"printf '\xf0\x9f'; sleep 0.2; printf '\x90\xa6'")

    assert client.jobs.get_logs(job.id) == "🐦"


def test_the_log_of_a_running_job_is_what_there_is_so_far(client):
    job = client.running("echo begin; sleep 600")

    give_up = time.monotonic() + 5
    while (text := client.jobs.get_logs(job.id)) == "" and time.monotonic() < give_up:
        time.sleep(0.02)

    assert text == "begin\n"
    assert [chunk.text for chunk in client.jobs.stream_logs(job.id, follow=False)] == ["begin\n"]
    client.jobs.stop(job.id)


def test_a_stream_begins_with_the_history_and_ends_with_the_script(client):
    job = client.running(SLOWLY)
    time.sleep(0.25)

    text = "".join(chunk.text for chunk in client.jobs.stream_logs(job.id))

    assert text == LINES
    assert client.jobs.wait(job.id, timeout=2).status == "completed"


def test_a_stream_may_begin_before_the_job_has_started(client):
    job = client.jobs.create("job", SLOWLY, memory_mb=64)
    assert job.status == "pending"

    assert "".join(chunk.text for chunk in client.jobs.stream_logs(job.id)) == LINES


def test_output_arrives_while_the_script_runs(client):
    job = client.running("echo now; sleep 600")

    chunk = next(iter(client.jobs.stream_logs(job.id)))

    assert (chunk.text, client.jobs.get_status(job.id)) == ("now\n", "running")
    client.jobs.stop(job.id)


def test_the_stream_of_a_job_that_is_stopped_ends(client):
    job = client.running("echo begin; sleep 600")
    client.jobs.request_stop(job.id)

    assert "".join(chunk.text for chunk in client.jobs.stream_logs(job.id)) == "begin\n"


def test_the_stream_of_a_job_that_is_cancelled_ends_with_nothing(client):
    blocker = client.running("sleep 600", vcpus=16)
    job = client.jobs.create("job", "echo never", memory_mb=64)
    client.jobs.stop(job.id)

    assert list(client.jobs.stream_logs(job.id)) == []
    assert client.jobs.get_logs(job.id) == ""
    client.jobs.stop(blocker.id)


def test_one_line_of_a_megabyte_arrives_whole(client):
    job = run(client, "head -c 1000000 /dev/zero | tr '\\0' x")

    assert client.jobs.get_logs(job.id) == "x" * 1_000_000


def test_what_was_dropped_is_told_in_its_place(client):
    job = run(client, "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last", log_limit=128 * 1024)

    text = client.jobs.get_logs(job.id)

    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert "of output were dropped here: the log's limit was reached" in text


def test_ten_readers_get_the_same_bytes_and_do_not_disturb_the_job(settings):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", "for i in {1..200}; do echo line $i; done; sleep 0.3; echo end", memory_mb=64)

        def read(_: int) -> bytes:
            return b"".join(chunk.data for chunk in client.jobs.stream_logs(job.id))

        with ThreadPoolExecutor(10) as readers:
            copies = set(readers.map(read, range(10)))

        assert copies == {b"".join(b"line %d\n" % number for number in range(1, 201)) + b"end\n"}


def test_a_reader_in_another_process_sees_the_same(settings):
    with Magpie(settings=settings) as writer, Magpie(settings=settings, lead=False) as reader:
        job = writer.jobs.create("job", SLOWLY, memory_mb=64)

        assert "".join(chunk.text for chunk in reader.jobs.stream_logs(job.id)) == LINES


async def test_ten_awaiting_readers_get_the_same_bytes(settings):
    async with AsyncMagpie(settings=settings) as client:
        job = await client.jobs.create("job", SLOWLY, memory_mb=64)

        async def read() -> str:
            return "".join([chunk.text async for chunk in client.jobs.stream_logs(job.id)])

        assert await asyncio.gather(*(read() for _ in range(10))) == [LINES] * 10


def test_a_reader_that_goes_away_leaves_no_thread_and_no_file_open(settings):
    with Magpie(settings=settings) as client:
        job = client.jobs.create("job", "echo begin; sleep 600", memory_mb=64)
        next(iter(client.jobs.stream_logs(job.id)))
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            stream = client.jobs.stream_logs(job.id)
            next(stream)
            del stream

        assert threading.active_count() <= threads + 1
        assert len(os.listdir("/proc/self/fd")) <= files
        client.jobs.stop(job.id)
