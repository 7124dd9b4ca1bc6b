"""The workspace ports on SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from magpie_local.domain.states import EventKind
from magpie_local.domain.workspace import DEFAULT_SIZE_GB, check_size, unreferenced
from magpie_local.errors import InvalidInput, WorkspaceExists, WorkspaceInUse, WorkspaceNotFound
from magpie_local.store import steps
from magpie_local.store.rows import disk_record, snapshot_record, workspace_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import JobRecord
    from magpie_local.domain.spec import JobSpec
    from magpie_local.domain.workspace import DiskId, DiskRecord, SnapshotRecord, WorkspaceRecord
    from magpie_local.ports.clock import Clock
    from magpie_local.store.database import Database
    from magpie_local.store.session import Session


class SqliteWorkspaces:
    """The port WorkspaceStore. Use it through `open_store`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, workspace_id: str) -> WorkspaceRecord | None:
        """Return one workspace."""
        return await self._database.read(partial(find, workspace_id=workspace_id))

    async def all(self) -> list[WorkspaceRecord]:
        """Return all workspaces, most recently used or made first."""
        return await self._database.read(
            lambda session: [workspace_record(row) for row in session.rows("all_workspaces")]
        )

    async def snapshots(self, workspace_id: str) -> list[SnapshotRecord]:
        """Return a workspace's snapshots, oldest first."""
        return await self._database.read(
            lambda session: [snapshot_record(row) for row in session.rows("workspace_snapshots", id=workspace_id)]
        )

    async def disks(self) -> list[DiskRecord]:
        """Return every disk that is known."""
        return await self._database.read(_disks)

    async def create(
        self, workspace_id: str, size_gb: int, disks: Sequence[DiskRecord], *, base_id: str | None = None,
        clean: bool = True,
    ) -> WorkspaceRecord:  # fmt: skip
        """Add a workspace whose head is the last of `disks`, which are new.

        Raises:
            WorkspaceExists: there is one of this id.
        """
        work = partial(
            _create, workspace_id=workspace_id, size_gb=size_gb, disks=disks, base_id=base_id, clean=clean,
            now=self._clock.now(),
        )  # fmt: skip
        return await self._database.write(work)

    async def change(
        self, workspace_id: str, *, expected: DiskId | None, disks: Sequence[DiskRecord] = (),
        head: DiskId | None = None, size_gb: int | None = None, add: str | None = None, remove: str | None = None,
    ) -> WorkspaceRecord:  # fmt: skip
        """Change a workspace whose head is still `expected`, and which no job has.

        Raises:
            WorkspaceNotFound, WorkspaceInUse, WorkspaceExists: see the port.
        """
        work = partial(
            _change, workspace_id=workspace_id, expected=expected, disks=disks, head=head, size_gb=size_gb, add=add,
            remove=remove, now=self._clock.now(),
        )  # fmt: skip
        return await self._database.write(work)

    async def delete(self, workspace_id: str) -> None:
        """Remove a workspace and its snapshots.

        Raises:
            WorkspaceInUse: a job has it, or is queued for it.
        """
        await self._database.write(partial(_delete, workspace_id=workspace_id), vital=True)

    async def forget_unreferenced(self) -> list[DiskId]:
        """Forget the disks that nothing needs any more, and return them, overlays first."""
        return await self._database.write(_forget, vital=True)


class SqliteWorkspaceUse:
    """The port WorkspaceUse: part of what the leader writes.

    Args:
        write: runs a function inside a fenced transaction.
        clock: where times come from.
    """

    def __init__(self, write: Callable[[Callable[[Session], None]], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock

    async def made(self, workspace_id: str, disks: Sequence[DiskRecord]) -> None:
        """Note that the disk of a new workspace is there: the last of `disks` becomes its head."""

        def work(session: Session) -> None:
            add_disks(session, disks)
            _update(session, workspace_id, head=disks[-1].id)

        await self._write(work)

    async def taken(self, workspace_id: str, job_id: JobId) -> None:
        """Note that a VM is about to have it."""
        now = self._clock.now()
        await self._write(
            lambda session: _update(session, workspace_id, is_clean=False, used_at=now, last_job=str(job_id))
        )

    async def mounted(self, workspace_id: str, fsck: int | None) -> None:
        """Note what the check before the mount said."""
        await self._write(lambda session: _update(session, workspace_id, fsck=fsck))

    async def released(self, workspace_id: str, *, clean: bool) -> None:
        """Note that the VM has let go of it."""
        await self._write(lambda session: _update(session, workspace_id, is_clean=clean))


def find(session: Session, workspace_id: str) -> WorkspaceRecord | None:
    """Return one workspace."""
    row = session.row("get_workspace", id=workspace_id)
    return None if row is None else workspace_record(row)


def ensure(session: Session, workspace_id: str, spec: JobSpec, now: float) -> str | None:
    """Have the workspace that an accepted job names; return what the job's story should say about it, if anything.

    Raises:
        WorkspaceNotFound: its base is not there.
        InvalidInput: it is there with another base, or is to be smaller than its base.
    """
    present = find(session, workspace_id)
    if present is None:
        base = _base(session, spec)
        size = spec.workspace_size_gb or (base.size_gb if base else DEFAULT_SIZE_GB)
        if base is not None:
            check_size(size, base.size_gb)
        session.run(
            "add_workspace", id=workspace_id, size_gb=size, head=None, base_id=spec.base_workspace_id, is_clean=True,
            created_at=now,
        )  # fmt: skip
        return None
    if spec.base_workspace_id not in (None, present.base_id):
        stands = f"its base is {present.base_id}" if present.base_id else "it has no base"
        raise InvalidInput("base_workspace_id", spec.base_workspace_id, f"workspace {workspace_id} exists and {stands}")
    if spec.workspace_size_gb not in (None, present.size_gb):
        return (
            f"workspace {workspace_id} keeps its size of {present.size_gb} GiB; `magpie workspaces resize` changes it"
        )
    return None


def add_disks(session: Session, disks: Sequence[DiskRecord]) -> None:
    """Make new disks known, in an order in which each lies on one that is known."""
    for disk in disks:
        session.run("add_disk", id=disk.id, parent=disk.parent)


def tell_note(session: Session, job: JobRecord, text: str | None, *, now: float) -> None:
    """Add a note to a job's story, where there is one to add."""
    if text is not None:
        steps.tell(session, job, EventKind.NOTE, now=now, detail={"text": text})


def _base(session: Session, spec: JobSpec) -> WorkspaceRecord | None:
    if spec.base_workspace_id is None:
        return None
    base = find(session, spec.base_workspace_id)
    if base is None:
        raise WorkspaceNotFound(f"There is no workspace {spec.base_workspace_id!r} to begin with.")
    return base


def _disks(session: Session) -> list[DiskRecord]:
    return [disk_record(row) for row in session.rows("all_disks")]


def _create(
    session: Session, *, workspace_id: str, size_gb: int, disks: Sequence[DiskRecord], base_id: str | None,
    clean: bool, now: float,
) -> WorkspaceRecord:  # fmt: skip
    add_disks(session, disks)
    try:
        session.run(
            "add_workspace", id=workspace_id, size_gb=size_gb, head=disks[-1].id, base_id=base_id, is_clean=clean,
            created_at=now,
        )  # fmt: skip
    except sqlite3.IntegrityError:
        raise WorkspaceExists(f"There is a workspace {workspace_id} already.") from None
    return _present(session, workspace_id)


def _change(
    session: Session, *, workspace_id: str, expected: DiskId | None, disks: Sequence[DiskRecord],
    head: DiskId | None, size_gb: int | None, add: str | None, remove: str | None, now: float,
) -> WorkspaceRecord:  # fmt: skip
    workspace = _present(session, workspace_id)
    if workspace.in_use_by is not None:
        raise WorkspaceInUse(f"Job {workspace.in_use_by} has the workspace {workspace_id}.")
    if workspace.head != expected:
        raise WorkspaceInUse(f"The workspace {workspace_id} was changed meanwhile.", hint="Try again.")
    add_disks(session, disks)
    _change_snapshots(session, workspace, add, remove, now)
    _update(session, workspace_id, head=head or workspace.head, size_gb=size_gb or workspace.size_gb)
    return _present(session, workspace_id)


def _change_snapshots(
    session: Session, workspace: WorkspaceRecord, add: str | None, remove: str | None, now: float
) -> None:
    seq = session.value("workspace_seq", id=workspace.id)
    if remove is not None and session.value("remove_snapshot", workspace=seq, name=remove) is None:
        raise WorkspaceNotFound(f"The workspace {workspace.id} has no snapshot {remove!r}.", hint="")
    if add is None:
        return
    try:
        session.run(
            "add_snapshot", workspace=seq, name=add, disk=workspace.head, size_gb=workspace.size_gb, created_at=now
        )
    except sqlite3.IntegrityError:
        raise WorkspaceExists(f"The workspace {workspace.id} has a snapshot {add!r} already.") from None


def _delete(session: Session, *, workspace_id: str) -> None:
    workspace = find(session, workspace_id)
    if workspace is None:
        return
    if workspace.in_use_by is not None:
        raise WorkspaceInUse(f"Job {workspace.in_use_by} has the workspace {workspace_id}.")
    if workspace.waiting:
        raise WorkspaceInUse(f"{workspace.waiting} queued jobs wait for the workspace {workspace_id}.")
    session.run("delete_workspace", id=workspace_id)


def _forget(session: Session) -> list[DiskId]:
    named = {row["id"] for row in session.rows("named_disks")}
    leaving = unreferenced(_disks(session), named)
    for disk_id in leaving:
        session.run("forget_disk", id=disk_id)
    return leaving


def _present(session: Session, workspace_id: str) -> WorkspaceRecord:
    workspace = find(session, workspace_id)
    if workspace is None:
        raise WorkspaceNotFound(f"There is no workspace {workspace_id!r}.")
    return workspace


def _update(session: Session, workspace_id: str, **changes: object) -> None:
    workspace = find(session, workspace_id)
    if workspace is None:
        return
    after = replace(workspace, **changes)  # type: ignore[arg-type]  # fields of its own
    columns = ("id", "size_gb", "head", "is_clean", "fsck", "used_at", "last_job")
    session.run("save_workspace", **{name: getattr(after, name) for name in columns})
