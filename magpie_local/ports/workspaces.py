"""The store's side of workspaces. Every write is one transaction; files are made before it and removed after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.domain.ids import JobId
    from magpie_local.domain.workspace import DiskId, DiskRecord, SnapshotRecord, WorkspaceRecord


class WorkspaceStore(Protocol):
    """What any process may do with workspaces.

    Whoever changes the head of one holds its lock (Layout.workspace_lock) while it does, and no job has it.
    """

    async def get(self, workspace_id: str) -> WorkspaceRecord | None:
        """Return one workspace."""
        ...

    async def all(self) -> list[WorkspaceRecord]:
        """Return all workspaces, most recently used or made first."""
        ...

    async def snapshots(self, workspace_id: str) -> list[SnapshotRecord]:
        """Return a workspace's snapshots, oldest first."""
        ...

    async def disks(self) -> list[DiskRecord]:
        """Return every disk that is known."""
        ...

    async def create(
        self, workspace_id: str, size_gb: int, disks: Sequence[DiskRecord], *, base_id: str | None = None,
        clean: bool = True,
    ) -> WorkspaceRecord:  # fmt: skip
        """Add a workspace whose head is the last of `disks`, which are new.

        Raises:
            WorkspaceExists: there is one of this id.
        """
        ...

    async def change(
        self, workspace_id: str, *, expected: DiskId | None, disks: Sequence[DiskRecord] = (),
        head: DiskId | None = None, size_gb: int | None = None, add: str | None = None, remove: str | None = None,
    ) -> WorkspaceRecord:  # fmt: skip
        """Change a workspace whose head is still `expected`, and which no job has.

        Args:
            workspace_id: which one.
            expected: its head as the caller knows it.
            disks: new ones.
            head: the new head; None leaves it.
            size_gb: likewise.
            add: name of a snapshot of `expected` to add.
            remove: name of a snapshot to remove.

        Raises:
            WorkspaceNotFound: there is none.
            WorkspaceInUse: a job has it, or its head is another one by now.
            WorkspaceExists: the snapshot to add is there.
            WorkspaceNotFound: the snapshot to remove is not.
        """
        ...

    async def delete(self, workspace_id: str) -> None:
        """Remove a workspace and its snapshots; one that is not there is fine. Its disks stay known until forgotten.

        Raises:
            WorkspaceInUse: a job has it, or is queued for it.
        """
        ...

    async def forget_unreferenced(self) -> list[DiskId]:
        """Forget the disks that nothing needs any more, and return them, overlays first: their files may go."""
        ...


class WorkspaceUse(Protocol):
    """What only the leader says of workspaces; fenced like all that it writes."""

    async def made(self, workspace_id: str, disks: Sequence[DiskRecord]) -> None:
        """Note that the disk of a new workspace is there: the last of `disks` becomes its head."""
        ...

    async def taken(self, workspace_id: str, job_id: JobId) -> None:
        """Note that a VM is about to have it: until it is released, its file system counts as not clean."""
        ...

    async def mounted(self, workspace_id: str, fsck: int | None) -> None:
        """Note what the check before the mount said."""
        ...

    async def released(self, workspace_id: str, *, clean: bool) -> None:
        """Note that the VM has let go of it."""
        ...
