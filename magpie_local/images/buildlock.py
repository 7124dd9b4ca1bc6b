"""One build of an image at a time, on one machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

_POLL = 0.2


@asynccontextmanager
async def build_lock(path: Path, waiting: Callable[[], None]) -> AsyncIterator[int]:
    """Hold the lock at `path`; yields its descriptor.

    Tools inherit the descriptor, so a killed build's lock is free only when the tools it left behind have ended:
    nobody cleans up under them.

    Args:
        waiting: called once where another build holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        told = False
        while not _taken(descriptor):
            if not told:
                waiting()
                told = True
            await asyncio.sleep(_POLL)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
