"""Interrupts that somebody asked for: a file each, which any process may leave and the leader carries out.

RUN/interrupts/JOB      an empty file

They lie beside the sockets, and not in the store: an interrupt is for a script that runs now, and means nothing after
the next boot of this machine.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from magpie_local.domain.ids import JobId
from magpie_local.engine.files import private_folder

if TYPE_CHECKING:
    from pathlib import Path


class Interrupts:
    """The interrupts of one state directory that are not carried out yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ask(self, job_id: JobId) -> None:
        """Leave one; asking again, before it is carried out, is nothing."""
        private_folder(self._folder)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._folder / job_id, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def all(self) -> list[JobId]:
        """Return the jobs that are to be interrupted."""
        try:
            return [JobId(name) for name in sorted(os.listdir(self._folder))]
        except FileNotFoundError:
            return []

    def forget(self, job_id: JobId) -> None:
        """Take one back: it is carried out, or means nothing any more."""
        (self._folder / job_id).unlink(missing_ok=True)
