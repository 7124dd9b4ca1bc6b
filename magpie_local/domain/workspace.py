"""Workspaces: named ext4 disks that outlive jobs (seed 002).

A workspace's content is a chain of disk files. Only the last one, its `head`, is ever written to; the others are
frozen and may be shared by snapshots, clones and overlays on a base. So each change of a workspace is: make new files,
then switch rows in one transaction. A crash before it leaves files that nobody names, and a sweep removes them.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType

from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from magpie_local.domain.ids import JobId

#: Names the file of one disk: `workspaces/ID.qcow2`.
DiskId = NewType("DiskId", str)
#: What tells the guest which of its disks is the workspace.
SERIAL = "workspace"
MOUNT_POINT = "/workspace"

DEFAULT_SIZE_GB = 10
#: ext4 with its default block size could do more; a sparse file beyond this is a mistake more often than a wish.
MAX_SIZE_GB = 16 * 1024

#: Seed 002 allows lower-case letters, digits and hyphens; the rest keeps ids from being options or too long (F80).
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_SNAPSHOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRecord:
    """One workspace as stored."""

    id: str
    #: Virtual size; the disk takes space on the host only as the guest writes.
    size_gb: int
    #: The disk that the next job writes to; None until the first job has made it.
    head: DiskId | None
    #: The workspace that its content began with, if any.
    base_id: str | None
    #: Whether the file system was unmounted by the last VM that had it; otherwise the next mount replays its journal.
    is_clean: bool
    #: What the last check of the file system said: e2fsck's exit code, None where none was needed yet.
    fsck: int | None
    #: Wall clock, seconds since the epoch.
    created_at: float
    used_at: float | None
    #: The job that had it last, which may be deleted by now.
    last_job: str | None
    #: The job whose VM has it now, or is about to.
    in_use_by: JobId | None
    #: How many queued jobs name it.
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRecord:
    """One disk file, and the one that it is an overlay on."""

    id: DiskId
    parent: DiskId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRecord:
    """A named state of a workspace, to which it can be rolled back."""

    workspace_id: str
    name: str
    disk: DiskId
    size_gb: int
    #: Wall clock, seconds since the epoch.
    created_at: float


def new_disk_id() -> DiskId:
    """Return a fresh id."""
    return DiskId(str(uuid.uuid4()))


def check_workspace_id(name: str, value: object) -> str:
    """Return a workspace's id as it was given.

    Raises:
        InvalidInput: it is none; `name` is the argument's.
    """
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise InvalidInput(name, value, "1 to 63 lower-case letters, digits and hyphens, not beginning with a hyphen")


def check_snapshot_name(value: object) -> str:
    """Return a snapshot's name as it was given.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(value, str) and _SNAPSHOT.fullmatch(value):
        return value
    raise InvalidInput("name", value, "1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit")


def check_size(value: object, least: int = 1) -> int:
    """Return a size in GiB.

    Raises:
        InvalidInput: it is no whole number from `least` on.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SIZE_GB:
        raise InvalidInput("workspace_size_gb", value, f"a whole number of GiB from {least} to {MAX_SIZE_GB}")
    return value


def chain(head: DiskId | None, disks: Mapping[DiskId, DiskRecord]) -> list[DiskId]:
    """Return a disk and everything it lies on, topmost first; what is not known ends the chain."""
    found: list[DiskId] = []
    while head is not None and head in disks and head not in found:
        found.append(head)
        head = disks[head].parent
    return found


def unreferenced(disks: Iterable[DiskRecord], named: Collection[DiskId]) -> list[DiskId]:
    """Return the disks that neither a workspace nor a snapshot needs, overlays before what they lie on."""
    known = {disk.id: disk for disk in disks}
    needed = {one for disk in named for one in chain(disk, known)}
    leaving = [disk_id for disk_id in known if disk_id not in needed]
    return sorted(leaving, key=lambda disk_id: -len(chain(disk_id, known)))
