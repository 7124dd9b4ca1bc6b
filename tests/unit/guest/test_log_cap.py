"""The cap on the log: bounded file, exact count of what was dropped."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_local.domain.frames import EXIT, GAP, GAP_PAYLOAD, LOG_HEADER, STARTED, STDERR, STDOUT, LogReader
from magpie_local.guest.agent.log import Log, Ring

KIB = 1024


@pytest.mark.parametrize(("total", "limit"), [(200_000_000, 256 * KIB), (20_000_000, 16 * KIB * KIB)])
def test_a_flood_fits_the_cap_and_is_counted_to_the_byte(agent, client, total, limit):
    client.run(b"yes 0123456 | head -c %d" % total, log_limit=limit)
    agent.exit()
    output = [payload for kind, _, payload in agent.frames() if kind == STDOUT]
    (gap,) = (payload for kind, _, payload in agent.frames() if kind == GAP)
    assert sum(map(len, output)) + GAP_PAYLOAD.unpack(gap)[0] == total
    assert limit // 2 < agent.log.stat().st_size <= limit + 64 * KIB


def test_head_gap_tail_and_exit_come_in_this_order(agent, client):
    client.run(b"echo first; head -c 1000000 /dev/zero; echo last", log_limit=300 * KIB)
    agent.exit()
    kinds = [kind for kind, _, _ in agent.frames()]
    assert kinds[:2] == [STARTED, STDOUT]
    assert kinds[-2:] == [STDOUT, EXIT]
    assert kinds.count(GAP) == 1
    assert agent.output().startswith(b"first\n")
    assert agent.output().endswith(b"last\n")


def test_output_within_the_cap_has_no_gap(agent, client):
    client.run(b"head -c 900000 /dev/zero", log_limit=1024 * KIB)
    agent.exit()
    assert GAP not in [kind for kind, _, _ in agent.frames()]
    assert agent.output() == bytes(900_000)


def test_the_head_is_on_disk_while_the_script_runs(agent, client):
    client.run(b"echo now; until [ -e go ]; do sleep 0.01; done", log_limit=64 * KIB)
    while agent.output() != b"now\n":
        pass
    assert [kind for kind, _, _ in agent.frames()] == [STARTED, STDOUT]
    (agent.home / "go").touch()
    assert agent.exit().code == 0


@given(writes=st.lists(st.integers(1, 3000), max_size=40), limit=st.integers(200, 20_000))
@settings(deadline=None, max_examples=200)
def test_any_output_under_any_cap_is_head_gap_tail(writes, limit):
    written = b"".join(bytes([index % 256]) * size for index, size in enumerate(writes))
    frames, size = _logged(written, limit)
    marks = [index for index, (kind, _) in enumerate(frames) if kind == GAP]
    place = marks[0] if marks else len(frames)
    head, tail = (b"".join(payload for _, payload in part) for part in (frames[:place], frames[place + 1 :]))
    dropped = GAP_PAYLOAD.unpack(frames[place][1])[0] if marks else 0
    assert len(marks) <= 1
    assert size <= limit + LOG_HEADER.size + GAP_PAYLOAD.size
    assert written == head + written[len(head) : len(head) + dropped] + tail


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 50), max_size=100), capacity=st.integers(50 + LOG_HEADER.size, 300))
def test_a_ring_holds_the_newest_frames(sizes, capacity):
    ring = Ring(capacity)
    frames = [LOG_HEADER.pack(size, STDOUT, index) + bytes(size) for index, size in enumerate(sizes)]
    for frame in frames:
        ring.push(memoryview(frame))
    held = b"".join(map(bytes, ring.parts()))
    assert len(held) <= capacity
    assert b"".join(frames).endswith(held)
    assert sum(sizes) == ring.dropped + sum(len(payload) for _, _, payload in LogReader().feed(held))


def _logged(output: bytes, limit: int) -> tuple[list[tuple[int, bytes]], int]:
    target = os.memfd_create("log")
    source = os.memfd_create("output")
    os.pwrite(source, output, 0)
    log = Log(target)
    log.limit(limit)
    while log.relay(STDERR, source):
        pass
    log.flush()
    data = os.pread(target, os.fstat(target).st_size, 0)
    for fd in (target, source):
        os.close(fd)
    return [(kind, payload) for kind, _, payload in LogReader().feed(data)], len(data)
