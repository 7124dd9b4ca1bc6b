"""What is done with workspaces while no VM has them.

Every change has one shape: under the workspace's lock, files are made, one transaction switches the rows, and then
what nothing needs is removed. A crash leaves the old state or the new one, and files that a sweep removes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from magpie_local.domain.workspace import DEFAULT_SIZE_GB, check_size, check_snapshot_name, check_workspace_id
from magpie_local.engine.faults import fault_point
from magpie_local.engine.workspaces.contents import Contents
from magpie_local.engine.workspaces.locking import WorkspaceLock, holding
from magpie_local.engine.workspaces.making import Making, collect, sweep
from magpie_local.engine.workspaces.usage import Usage, measure
from magpie_local.errors import InvalidInput, WorkspaceExists

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from magpie_local.domain.workspace import DiskRecord, WorkspaceRecord
    from magpie_local.engine.context import Ports


class Prepared(NamedTuple):
    """A workspace that a VM may have."""

    #: The disk to plug: qcow2, to be written to.
    head: Path
    #: Its file system was not unmounted by the last VM: the guest has to check it first.
    check: bool


class Workspaces:
    """The verbs. Each raises InvalidInput for an id that is none, and WorkspaceInUse while somebody else is at it.

    Args:
        ports: the world.
    """

    def __init__(self, ports: Ports) -> None:
        self._layout = ports.layout
        self._store = ports.workspaces
        self._use = ports.workspace_use
        self._disks = ports.disks
        self._contents = Contents(ports)

    # What there is

    async def get(self, workspace_id: str) -> WorkspaceRecord:
        """Return one workspace.

        Raises:
            WorkspaceNotFound: there is none.
        """
        return await self._contents.get(workspace_id)

    async def usage(self) -> dict[str, Usage]:
        """Return how much space on the host each workspace takes."""
        return await measure(self._layout, self._store, await self._store.all())

    def is_busy(self, workspace_id: str) -> bool:
        """Whether somebody changes or exports it at this instant: a job for it would have to wait."""
        path = self._layout.workspace_lock(check_workspace_id("workspace_id", workspace_id))
        return path.exists() and WorkspaceLock(path).taken_by_other()

    # Beginning and end

    async def create(self, workspace_id: str, size_gb: int | None = None, base_id: str | None = None) -> None:
        """Make a workspace with an empty file system, or with what another one holds now.

        Raises:
            WorkspaceExists: there is one of this id.
            WorkspaceNotFound: there is no such base.
            WorkspaceInUse: a job has the base.
            HostDiskFull, HostError, WorkspaceDamaged (the base).
        """
        if size_gb is not None:
            check_size(size_gb)
        if base_id is not None:
            return await self._derive(base_id, workspace_id, size_gb)
        async with self._contents.fresh(workspace_id), Making(self._layout) as making:
            disk, size = making.new(None), size_gb or DEFAULT_SIZE_GB
            await self._disks.blank(self._layout.disk(disk.id), size)
            await making.offer(self._store.create(workspace_id, size, [disk]))
        return None

    async def clone(self, workspace_id: str, new_id: str) -> None:
        """Make a workspace with what this one holds now; both go on independently.

        Raises:
            WorkspaceNotFound, WorkspaceExists, WorkspaceInUse, WorkspaceDamaged, HostDiskFull, HostError.
        """
        await self._derive(workspace_id, new_id, None)

    async def import_(self, source: Path, new_id: str) -> None:
        """Make a workspace of a file that `export` wrote, or of any self-contained qcow2 with an ext4 file system.

        Raises:
            InvalidInput: the file is no such thing.
            WorkspaceExists, HostDiskFull, HostError.
        """
        async with self._contents.fresh(new_id), Making(self._layout) as making:
            disk = making.new(None)
            size_gb = await self._disks.import_(source, self._layout.disk(disk.id))
            # Who knows how it was left: the first VM checks it.
            await making.offer(self._store.create(new_id, size_gb, [disk], clean=False))

    async def delete(self, workspace_id: str) -> None:
        """Remove a workspace and its snapshots. Clones, and workspaces that began with it, keep what they have.

        Raises:
            WorkspaceNotFound: there is none.
            WorkspaceInUse: a job has it or waits for it.
        """
        async with self._contents.free(workspace_id) as (_, lock):
            await self._store.delete(workspace_id)
            fault_point("W2.after")
            await collect(self._layout, self._store)
            lock.discard()

    # Changes

    async def resize(self, workspace_id: str, size_gb: int) -> None:
        """Grow a workspace; the file system grows when the next VM mounts it.

        Raises:
            InvalidInput: it would shrink.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged, HostDiskFull, HostError.
        """
        async with self._contents.free(workspace_id) as (found, _):
            check_size(size_gb, found.size_gb)
            if found.head is not None:
                # After a crash it may be larger than its row says; it never shrinks again.
                size_gb = max(size_gb, (await self._contents.whole(found)).size_gb)
                await self._disks.resize(self._layout.disk(found.head), size_gb)
                fault_point("W4.after")
            await self._store.change(workspace_id, expected=found.head, size_gb=size_gb)

    async def snapshot(self, workspace_id: str, name: str) -> None:
        """Keep a name for what a workspace holds now.

        Raises:
            WorkspaceExists: it has a snapshot of this name.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged, HostDiskFull, HostError.
        """
        check_snapshot_name(name)
        async with self._contents.free(workspace_id) as (found, _), Making(self._layout) as making:
            if any(known.name == name for known in await self._store.snapshots(workspace_id)):
                raise WorkspaceExists(f"The workspace {workspace_id} has a snapshot {name!r} already.")
            found = await self._contents.with_disk(found)
            await self._contents.whole(found)
            assert found.head is not None
            disk = await self._contents.on_top(making, found.head)
            change = self._store.change(workspace_id, expected=found.head, disks=[disk], head=disk.id, add=name)
            await making.offer(change)

    async def rollback(self, workspace_id: str, name: str) -> None:
        """Make a workspace hold again what a snapshot kept; what it holds now is lost, its snapshots stay.

        Raises:
            WorkspaceNotFound: there is no such workspace, or no such snapshot.
            WorkspaceInUse, HostDiskFull, HostError.
            WorkspaceDamaged: the snapshot is; the workspace was left as it is.
        """
        async with self._contents.free(workspace_id) as (found, _), Making(self._layout) as making:
            kept = await self._contents.snapshot(workspace_id, name)
            await self._disks.inspect(await self._contents.files(kept.disk))
            disk = await self._contents.on_top(making, kept.disk)
            await making.offer(self._store.change(
                workspace_id, expected=found.head, disks=[disk], head=disk.id, size_gb=kept.size_gb
            ))  # fmt: skip
            await collect(self._layout, self._store)

    async def remove_snapshot(self, workspace_id: str, name: str) -> None:
        """Forget a snapshot; its space is free again where nothing lies on it.

        Raises:
            WorkspaceNotFound: there is no such workspace, or no such snapshot.
            WorkspaceInUse.
        """
        async with self._contents.free(workspace_id) as (found, _):
            await self._contents.snapshot(workspace_id, name)
            await self._store.change(workspace_id, expected=found.head, remove=name)
            fault_point("W2.after")
            await collect(self._layout, self._store)

    async def export(self, workspace_id: str, target: Path, *, compress: bool = False) -> None:
        """Write what a workspace holds now to one new file; no job gets it meanwhile.

        Raises:
            InvalidInput: there is something at `target`, or no folder for it.
            WorkspaceNotFound, WorkspaceInUse, WorkspaceDamaged, HostDiskFull, HostError.
        """
        await asyncio.to_thread(_check_target, target)
        async with self._contents.free(workspace_id) as (found, _):
            found = await self._contents.with_disk(found)
            await self._contents.whole(found)
            assert found.head is not None
            await self._disks.export(self._layout.disk(found.head), target, compress=compress)

    # For the leader

    async def prepare(self, workspace_id: str) -> Prepared:
        """Return the disk for the VM of a job that has this workspace by now; where there is none yet, it is made.

        May be called again after whatever happened to an earlier call. Waits for those who change the workspace.

        Raises:
            WorkspaceNotFound: it is gone, or the one that it is to begin with is.
            WorkspaceInUse: a job has the one that it is to begin with.
            WorkspaceDamaged: its disk is; nothing was changed.
            HostDiskFull, HostError, LeadershipLost.
        """

        async def commit(disks: Sequence[DiskRecord], clean: bool) -> None:
            if not clean:
                await self._use.released(workspace_id, clean=False)
            await self._use.made(workspace_id, disks)

        check_workspace_id("workspace_id", workspace_id)
        async with holding(self._layout, workspace_id, None):
            found = await self.get(workspace_id)
            if found.head is None:
                await self._contents.make_first(found, commit, None)
                found = await self.get(workspace_id)
            await self._contents.whole(found)
            assert found.head is not None
            return Prepared(self._layout.disk(found.head), check=not found.is_clean)

    async def sweep(self) -> list[str]:
        """Remove what crashes have left; return the names. Any process may, at any time; a new leader does."""
        await collect(self._layout, self._store)
        return await sweep(self._layout, self._store)

    async def _derive(self, base_id: str, new_id: str, size_gb: int | None) -> None:
        """Make a workspace on the content of another one."""
        check_workspace_id("workspace_id", new_id)
        if base_id == new_id:
            raise InvalidInput("workspace_id", new_id, "a workspace can't be made of itself")
        async with (
            self._contents.free(base_id) as (base, _),
            self._contents.fresh(new_id),
            Making(self._layout) as making,
        ):
            size = check_size(base.size_gb if size_gb is None else size_gb, base.size_gb)
            disk = await self._contents.on_top(making, await self._contents.freeze(base), size_gb=size)
            await making.offer(
                self._store.create(new_id, size, [disk], base_id=base_id, clean=base.is_clean)
            )  # fmt: skip


def _check_target(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise InvalidInput("path", str(target), "there is something already; nothing is overwritten")
    if not target.parent.is_dir():
        raise InvalidInput("path", str(target), "there is no such folder")
