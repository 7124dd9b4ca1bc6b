"""Leadership is a flock: decided by the kernel, free the instant its holder dies, blind to clocks and blocked loops.

A flock belongs to the open file, so a forked child (multiprocessing in a notebook) would keep it after the parent's
death (F13): every
held lock is closed in children.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_held: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class ProcessLock:
    """An exclusive lock on a file that nothing else opens; held until released or until the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._fd is not None

    def acquire(self) -> bool:
        """Try to take it, without waiting; return whether it is held now."""
        if self._fd is not None:
            return True
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        _held.add(self)
        return True

    def release(self) -> None:
        """Give it back; releasing twice is nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def taken_by_other(self) -> bool:
        """Whether somebody else holds it at this instant."""
        if self.held:
            return False
        free = self.acquire()
        self.release()
        return not free


def _forget_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
