"""An attempt's folder: made whole or not at all, and cleaned of what only its VM needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from magpie_local.domain.ids import JobId

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.layout import AttemptFiles, Layout


#: Seconds within which another process may still be about to have its job accepted.
_PACKING = 3600.0


def private_folder(path: Path) -> None:
    """Make a folder and what is missing above it, all 0700: mkdir's own `parents` would follow the umask."""
    if not path.parent.exists():
        private_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)


def make_folder(files: AttemptFiles, sockets: Path) -> None:
    """Make the attempt's folder and the one for control sockets, both 0700; leftovers of a crash are replaced."""
    private_folder(sockets)
    private_folder(files.folder.parent)
    if files.folder.exists():
        shutil.rmtree(files.folder)
    files.folder.mkdir(mode=0o700)
    for path in (files.log, files.console):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    sync(files.folder.parent)


def adopt_folder(pooled: AttemptFiles, files: AttemptFiles) -> None:
    """Make the folder of a waiting VM the attempt's, in one step; QEMU goes on with the files it has open."""
    private_folder(files.folder.parent)
    if files.folder.exists():
        shutil.rmtree(files.folder)
    pooled.folder.rename(files.folder)
    sync(files.folder.parent)


def remove_leftovers(files: AttemptFiles, control: Path) -> None:
    """Remove the scratch disk, what it slept in and the control socket; log and console stay with the job."""
    for path in (files.scratch, files.outputs, files.asleep, files.asleep.with_name(f".{files.asleep.name}"), control):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    shutil.rmtree(files.asleep.with_name(f"{files.asleep.name}.d"), ignore_errors=True)


def remove_job(layout: Layout, job_id: str) -> None:
    """Remove all files of a job; what is gone already is fine."""
    layout.upload(JobId(job_id)).unlink(missing_ok=True)
    shutil.rmtree(layout.jobs / job_id, ignore_errors=True)


def job_folders(layout: Layout) -> list[str]:
    """Return the names below jobs/; one that belongs to no job was left by a delete that a crash cut short."""
    try:
        return os.listdir(layout.jobs)
    except FileNotFoundError:
        return []


def old_uploads(layout: Layout) -> list[JobId]:
    """Return the jobs of uploads that have lain there for a while: one without a job was never accepted."""
    latest = time.time() - _PACKING
    found = []
    for path in layout.uploads.glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < latest:
                found.append(JobId(path.stem))
    return found


def sync(path: Path) -> None:
    """Have the kernel write a file or folder to its disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
