from __future__ import annotations

import os
import signal
import stat
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from magpie_local.engine.locks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def forked() -> Iterator[int]:
    """Fork a child that sleeps; it is killed at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn where threads exist
        child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_one_of_two_gets_it(tmp_path):
    one, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")

    assert (one.acquire(), other.acquire()) == (True, False)
    assert (one.held, other.held) == (True, False)


def test_acquiring_again_keeps_it(tmp_path):
    lock = ProcessLock(tmp_path / "lock")

    assert (lock.acquire(), lock.acquire(), lock.held) == (True, True, True)


def test_released_it_is_free_and_releasing_twice_is_nothing(tmp_path):
    one, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    one.acquire()

    one.release()
    one.release()

    assert other.acquire()


def test_who_asks_learns_whether_another_has_it(tmp_path):
    one, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")

    assert not other.taken_by_other()
    one.acquire()
    assert other.taken_by_other()
    assert not one.taken_by_other()


def test_asking_does_not_take_it(tmp_path):
    one, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")

    other.taken_by_other()

    assert not other.held
    assert one.acquire()


def test_a_forked_child_does_not_keep_it(tmp_path):
    lock, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    lock.acquire()

    with forked():
        # What the death of this process would do; the child is still there.
        lock.release()
        give_up = time.monotonic() + 5.0
        while not other.acquire() and time.monotonic() < give_up:
            time.sleep(0.01)

    assert other.held


def test_the_parent_keeps_it_when_it_forks(tmp_path):
    lock, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    lock.acquire()

    with forked():
        assert lock.held
        assert not other.acquire()


def test_the_file_is_the_users_alone_and_stays(tmp_path):
    lock = ProcessLock(tmp_path / "lock")
    lock.acquire()
    lock.release()

    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
