"""What one can do with workspaces, as coroutines on the engine's loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.api.models import Confirmation
from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo, snapshot_of, workspace_of
from magpie_local.domain.workspace import DEFAULT_SIZE_GB, check_workspace_id
from magpie_local.engine.workspaces import Usage, Workspaces
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    import builtins

    from magpie_local.engine.engine import Engine

#: Of a workspace that was made while its usage was read.
_NOTHING = Usage(own=0, shared=0, snapshots=0)


class WorkspaceService:
    """The verbs. Any process may do them: no VM is needed.

    Args:
        engine: the engine of this process.
    """

    def __init__(self, engine: Engine) -> None:
        self._store = engine.ports.workspaces
        self._bell = engine.bell
        self._workspaces = Workspaces(engine.ports)

    async def list(self) -> list[WorkspaceInfo]:
        """Return all workspaces, most recently used or made first."""
        usage = await self._workspaces.usage()
        return [workspace_of(record, usage.get(record.id, _NOTHING)) for record in await self._store.all()]

    async def get(self, workspace_id: str) -> WorkspaceInfo:
        """Return one workspace."""
        record = await self._workspaces.get(workspace_id)
        return workspace_of(record, (await self._workspaces.usage()).get(record.id, _NOTHING))

    async def create(
        self, workspace_id: str, size_gb: int | None = None, base_workspace_id: str | None = None
    ) -> WorkspaceInfo:
        """Make a workspace, empty or with what another one holds."""
        if base_workspace_id is not None:
            check_workspace_id("base_workspace_id", base_workspace_id)
        size = DEFAULT_SIZE_GB if size_gb is None and base_workspace_id is None else size_gb
        await self._workspaces.create(workspace_id, size, base_workspace_id)
        return await self._changed(workspace_id)

    async def delete(self, workspace_id: str) -> Confirmation:
        """Remove a workspace and its snapshots."""
        await self._workspaces.delete(workspace_id)
        self._bell.ring()
        return Confirmation(id=workspace_id, status="deleted", kind="workspace")

    async def resize(self, workspace_id: str, size_gb: int) -> WorkspaceInfo:
        """Grow a workspace."""
        await self._workspaces.resize(workspace_id, size_gb)
        return await self._changed(workspace_id)

    async def snapshots(self, workspace_id: str) -> builtins.list[SnapshotInfo]:
        """Return a workspace's snapshots, oldest first."""
        await self._workspaces.get(workspace_id)
        return [snapshot_of(record) for record in await self._store.snapshots(workspace_id)]

    async def snapshot(self, workspace_id: str, name: str) -> SnapshotInfo:
        """Keep a name for what a workspace holds now."""
        await self._workspaces.snapshot(workspace_id, name)
        self._bell.ring()
        (made,) = [one for one in await self._store.snapshots(workspace_id) if one.name == name]
        return snapshot_of(made)

    async def rollback(self, workspace_id: str, name: str) -> WorkspaceInfo:
        """Make a workspace hold again what a snapshot kept."""
        await self._workspaces.rollback(workspace_id, name)
        return await self._changed(workspace_id)

    async def remove_snapshot(self, workspace_id: str, name: str) -> Confirmation:
        """Forget a snapshot."""
        await self._workspaces.remove_snapshot(workspace_id, name)
        self._bell.ring()
        return Confirmation(id=f"{workspace_id}@{name}", status="deleted", kind="snapshot")

    async def clone(self, workspace_id: str, new_id: str) -> WorkspaceInfo:
        """Make a workspace with what this one holds now."""
        await self._workspaces.clone(workspace_id, new_id)
        return await self._changed(new_id)

    async def export(self, workspace_id: str, path: str | Path, *, compress: bool = False) -> Path:
        """Write what a workspace holds to one new file."""
        target = _path(path)
        await self._workspaces.export(workspace_id, target, compress=compress)
        self._bell.ring()
        return target

    async def import_file(self, path: str | Path, workspace_id: str) -> WorkspaceInfo:
        """Make a workspace of a file."""
        await self._workspaces.import_(_path(path), workspace_id)
        return await self._changed(workspace_id)

    async def _changed(self, workspace_id: str) -> WorkspaceInfo:
        self._bell.ring()
        return await self.get(workspace_id)


def _path(path: object) -> Path:
    """Return a path of the caller's, absolute.

    Raises:
        InvalidInput: it can't be one.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput("path", path, "the name of a file")
    return Path(text).absolute()
