from __future__ import annotations

import asyncio
import socket
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from magpie_local.engine.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def opened(folder: Path) -> Iterator[Bell]:
    bell = Bell(folder)
    bell.open()
    try:
        yield bell
    finally:
        bell.close()


async def waited(bell: Bell, ring: asyncio.Event, limit: float = 5.0) -> float:
    began = time.monotonic()
    await bell.wait(ring, limit)
    return time.monotonic() - began


async def test_a_ring_wakes_the_other_processes_bell(short):
    with opened(short / "bells") as one, opened(short / "bells") as other:
        ring = other.listen()
        one.ring()

        assert await waited(other, ring) < 1.0


async def test_a_ring_wakes_those_who_wait_on_the_same_bell(short):
    with opened(short / "bells") as bell:
        waiters = [asyncio.create_task(waited(bell, bell.listen())) for _ in range(3)]
        await asyncio.sleep(0)
        bell.ring()

        assert max(await asyncio.gather(*waiters)) < 1.0


async def test_a_ring_between_listening_and_waiting_is_not_missed(short):
    with opened(short / "bells") as bell:
        ring = bell.listen()
        bell.ring()
        await asyncio.sleep(0.01)

        assert await waited(bell, ring) < 0.5


async def test_an_old_ring_does_not_wake_who_listens_after_it(short):
    with opened(short / "bells") as bell:
        bell.ring()

        assert await waited(bell, bell.listen(), 0.05) >= 0.045


async def test_a_thousand_rings_block_nobody(short):
    with opened(short / "bells") as one, opened(short / "bells") as other:
        ring = other.listen()
        for _ in range(1000):
            one.ring()

        assert await waited(other, ring) < 1.0


async def test_the_bell_of_a_dead_process_is_taken_down_by_the_next_ring(short):
    with opened(short / "bells") as bell:
        dead = short / "bells" / "4711-abcdef"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left_behind:
            left_behind.bind(str(dead))

        bell.ring()

        assert not dead.exists()
        assert len(list((short / "bells").iterdir())) == 1


async def test_closing_wakes_those_who_wait_and_leaves_no_socket(short):
    with opened(short / "bells") as bell:
        waiter = asyncio.create_task(waited(bell, bell.listen()))
        await asyncio.sleep(0)
        bell.close()

        assert await waiter < 1.0
        assert list((short / "bells").iterdir()) == []


async def test_a_bell_that_is_not_open_rings_in_vain_and_closes_twice(short):
    bell = Bell(short / "bells")

    bell.ring()
    bell.close()
    bell.close()

    assert not (short / "bells").exists()


async def test_only_the_user_can_reach_the_bells(short):
    with opened(short / "bells"):
        assert stat.S_IMODE((short / "bells").stat().st_mode) == 0o700
