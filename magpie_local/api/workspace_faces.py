"""The two faces of the workspace verbs, as `client.workspaces`: blocking and awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import builtins
    from pathlib import Path

    from magpie_local.api.models import Confirmation
    from magpie_local.api.runtime import Runtime
    from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo


class Workspaces:
    """What one can do with workspaces, the disks that outlive jobs (docs/workspaces.md)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.workspaces

    def list(self) -> builtins.list[WorkspaceInfo]:
        """Return all workspaces, most recently used or made first."""
        return self._runtime.call(self._verbs.list())

    def get(self, workspace_id: str) -> WorkspaceInfo:
        """Return a workspace as it is now.

        Raises:
            WorkspaceNotFound: there is none of that id.
        """
        return self._runtime.call(self._verbs.get(workspace_id))

    def create(
        self, workspace_id: str, size_gb: int | None = None, base_workspace_id: str | None = None
    ) -> WorkspaceInfo:
        """Make a workspace; a job that names a new one makes it too.

        Args:
            workspace_id: 1 to 63 lower-case letters, digits and hyphens.
            size_gb: GiB; takes space only as it is written to. None is 10, or the size of the base.
            base_workspace_id: begin with what this one holds now; it stays as it is.

        Raises:
            InvalidInput: a value is not allowed.
            WorkspaceExists: there is one of this id.
            WorkspaceNotFound: there is no such base.
            WorkspaceInUse: a job has the base.
        """
        return self._runtime.call(self._verbs.create(workspace_id, size_gb, base_workspace_id))

    def delete(self, workspace_id: str) -> Confirmation:
        """Remove a workspace and its snapshots; clones of it keep what they have.

        Raises:
            WorkspaceNotFound: there is none of that id.
            WorkspaceInUse: a job has it, or waits for it.
        """
        return self._runtime.call(self._verbs.delete(workspace_id))

    def resize(self, workspace_id: str, size_gb: int) -> WorkspaceInfo:
        """Grow a workspace to `size_gb` GiB; its file system grows when the next job mounts it.

        Raises:
            InvalidInput: it would shrink.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged.
        """
        return self._runtime.call(self._verbs.resize(workspace_id, size_gb))

    def snapshots(self, workspace_id: str) -> builtins.list[SnapshotInfo]:
        """Return a workspace's snapshots, oldest first.

        Raises:
            WorkspaceNotFound: there is none of that id.
        """
        return self._runtime.call(self._verbs.snapshots(workspace_id))

    def snapshot(self, workspace_id: str, name: str) -> SnapshotInfo:
        """Keep what a workspace holds now under a name; takes space only as the workspace changes.

        Raises:
            WorkspaceExists: it has a snapshot of this name.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged.
        """
        return self._runtime.call(self._verbs.snapshot(workspace_id, name))

    def rollback(self, workspace_id: str, name: str) -> WorkspaceInfo:
        """Make a workspace hold again what a snapshot kept; what it holds now is lost. Its snapshots stay.

        Raises:
            WorkspaceNotFound: there is no such workspace, or no such snapshot.
            WorkspaceInUse: a job has it.
            WorkspaceDamaged: the snapshot is; nothing was changed.
        """
        return self._runtime.call(self._verbs.rollback(workspace_id, name))

    def remove_snapshot(self, workspace_id: str, name: str) -> Confirmation:
        """Forget a snapshot; what the workspace holds now stays.

        Raises:
            WorkspaceNotFound: there is no such workspace, or no such snapshot.
            WorkspaceInUse: a job has it.
        """
        return self._runtime.call(self._verbs.remove_snapshot(workspace_id, name))

    def clone(self, workspace_id: str, new_id: str) -> WorkspaceInfo:
        """Make a workspace with what this one holds now, at once and without copying; both go on independently.

        Raises:
            WorkspaceExists: there is one of the new id.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged.
        """
        return self._runtime.call(self._verbs.clone(workspace_id, new_id))

    def export(self, workspace_id: str, path: str | Path, *, compress: bool = False) -> Path:
        """Write what a workspace holds now to one new file, a qcow2 that needs no other; return its path.

        Raises:
            InvalidInput: there is something at `path` already, or no folder for it.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged.
        """
        return self._runtime.call(self._verbs.export(workspace_id, path, compress=compress))

    def import_file(self, path: str | Path, workspace_id: str) -> WorkspaceInfo:
        """Make a workspace of a file that `export` wrote, or of any self-contained qcow2 that holds an ext4.

        The file is copied, and nothing that it names is opened: it may come from somebody else.

        Raises:
            InvalidInput: the file is no such thing.
            WorkspaceExists: there is a workspace of this id.
        """
        return self._runtime.call(self._verbs.import_file(path, workspace_id))


class AsyncWorkspaces:
    """The same, awaited; errors as in `Workspaces`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.workspaces

    async def list(self) -> builtins.list[WorkspaceInfo]:
        """Return all workspaces, most recently used or made first."""
        return await self._runtime.await_call(self._verbs.list())

    async def get(self, workspace_id: str) -> WorkspaceInfo:
        """Return a workspace as it is now."""
        return await self._runtime.await_call(self._verbs.get(workspace_id))

    async def create(
        self, workspace_id: str, size_gb: int | None = None, base_workspace_id: str | None = None
    ) -> WorkspaceInfo:
        """Make a workspace; a job that names a new one makes it too."""
        return await self._runtime.await_call(self._verbs.create(workspace_id, size_gb, base_workspace_id))

    async def delete(self, workspace_id: str) -> Confirmation:
        """Remove a workspace and its snapshots; clones of it keep what they have."""
        return await self._runtime.await_call(self._verbs.delete(workspace_id))

    async def resize(self, workspace_id: str, size_gb: int) -> WorkspaceInfo:
        """Grow a workspace to `size_gb` GiB; its file system grows when the next job mounts it."""
        return await self._runtime.await_call(self._verbs.resize(workspace_id, size_gb))

    async def snapshots(self, workspace_id: str) -> builtins.list[SnapshotInfo]:
        """Return a workspace's snapshots, oldest first."""
        return await self._runtime.await_call(self._verbs.snapshots(workspace_id))

    async def snapshot(self, workspace_id: str, name: str) -> SnapshotInfo:
        """Keep what a workspace holds now under a name; takes space only as the workspace changes."""
        return await self._runtime.await_call(self._verbs.snapshot(workspace_id, name))

    async def rollback(self, workspace_id: str, name: str) -> WorkspaceInfo:
        """Make a workspace hold again what a snapshot kept; what it holds now is lost. Its snapshots stay."""
        return await self._runtime.await_call(self._verbs.rollback(workspace_id, name))

    async def remove_snapshot(self, workspace_id: str, name: str) -> Confirmation:
        """Forget a snapshot; what the workspace holds now stays."""
        return await self._runtime.await_call(self._verbs.remove_snapshot(workspace_id, name))

    async def clone(self, workspace_id: str, new_id: str) -> WorkspaceInfo:
        """Make a workspace with what this one holds now, at once and without copying; both go on independently."""
        return await self._runtime.await_call(self._verbs.clone(workspace_id, new_id))

    async def export(self, workspace_id: str, path: str | Path, *, compress: bool = False) -> Path:
        """Write what a workspace holds now to one new file, a qcow2 that needs no other; return its path."""
        return await self._runtime.await_call(self._verbs.export(workspace_id, path, compress=compress))

    async def import_file(self, path: str | Path, workspace_id: str) -> WorkspaceInfo:
        """Make a workspace of a file that `export` wrote, or of any self-contained qcow2 that holds an ext4."""
        return await self._runtime.await_call(self._verbs.import_file(path, workspace_id))
