"""Waiting for other connections' locks."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02
_GROWTH = 1.02


def patiently(action: Callable[[], T], timeout: float) -> T:
    """Repeat `action` while another connection holds the lock; after `timeout` seconds its error comes through.

    SQLite's own waiting sleeps up to 0.1 s between looks, and so hardly ever meets the gaps of a busy writer:
    it is turned down to 1 ms, and this does the rest.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        # Of random length, so that two that wait don't keep step with a third that works.
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether SQLite met a lock of another connection."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
