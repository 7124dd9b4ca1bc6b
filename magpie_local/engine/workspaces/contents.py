"""What a workspace holds: its chain of disk files, and the locks under which it changes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from magpie_local.domain.vm import Disk
from magpie_local.domain.workspace import chain, check_snapshot_name, check_workspace_id
from magpie_local.engine.workspaces.locking import holding
from magpie_local.engine.workspaces.making import Making
from magpie_local.errors import HostError, WorkspaceDamaged, WorkspaceExists, WorkspaceInUse, WorkspaceNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from magpie_local.domain.workspace import DiskId, DiskRecord, SnapshotRecord, WorkspaceRecord
    from magpie_local.engine.context import Ports
    from magpie_local.engine.workspaces.locking import WorkspaceLock
    from magpie_local.ports.hypervisor import DiskFacts

    #: Has the store name new disks; told whether what they hold was let go of cleanly.
    Commit = Callable[[Sequence[DiskRecord], bool], Awaitable[object]]

#: How long a verb waits for another change of the same workspace, seconds: most take milliseconds.
PATIENCE = 2.0
#: How long it waits for the VM of a job whose end is known, and how often it looks, seconds.
_FAREWELL, _LOOK = 30.0, 0.02
#: Most files that a disk may lie on: libvirt follows 200, and each one costs time at every start.
MAX_CHAIN = 64


class Contents:
    """The disks of workspaces, and who may change them.

    Args:
        ports: the world.
    """

    def __init__(self, ports: Ports) -> None:
        self._layout = ports.layout
        self._store = ports.workspaces
        self._disks = ports.disks
        self._jobs = ports.jobs
        self._clock = ports.clock

    async def get(self, workspace_id: str) -> WorkspaceRecord:
        """Return one workspace.

        Raises:
            WorkspaceNotFound: there is none.
        """
        found = await self._store.get(check_workspace_id("workspace_id", workspace_id))
        if found is None:
            raise WorkspaceNotFound(f"There is no workspace {workspace_id!r}.")
        return found

    async def snapshot(self, workspace_id: str, name: str) -> SnapshotRecord:
        """Return one snapshot.

        Raises:
            WorkspaceNotFound: there is none.
        """
        check_snapshot_name(name)
        for known in await self._store.snapshots(workspace_id):
            if known.name == name:
                return known
        hint = f"`magpie workspaces snapshots {workspace_id}` lists them."
        raise WorkspaceNotFound(f"The workspace {workspace_id} has no snapshot {name!r}.", hint=hint)

    @asynccontextmanager
    async def free(self, workspace_id: str) -> AsyncIterator[tuple[WorkspaceRecord, WorkspaceLock]]:
        """Hold a workspace that no job has; one whose VM is on its way out is waited for.

        Raises:
            WorkspaceNotFound: there is none.
            WorkspaceInUse: a job has it, or somebody changes it.
        """
        # Not to leave a lock behind for each mistyped id.
        await self._left(await self.get(workspace_id))
        async with holding(self._layout, workspace_id, PATIENCE) as lock:
            found = await self.get(workspace_id)
            if found.in_use_by is not None:
                raise WorkspaceInUse(f"Job {found.in_use_by} has the workspace {workspace_id}.")
            yield found, lock

    async def _left(self, found: WorkspaceRecord) -> None:
        """Return when the job that has a workspace has let go of it, where its end is known already; or give up."""
        give_up = self._clock.monotonic() + _FAREWELL
        while found.in_use_by is not None and self._clock.monotonic() < give_up:
            job = await self._jobs.get(found.in_use_by)
            if job is not None and job.needs_vm:
                return
            await asyncio.sleep(_LOOK)
            found = await self.get(found.id)

    @asynccontextmanager
    async def fresh(self, workspace_id: str) -> AsyncIterator[None]:
        """Hold the id of a workspace that is to be made.

        Raises:
            WorkspaceExists: there is one already.
            WorkspaceInUse: somebody makes it.
        """
        check_workspace_id("workspace_id", workspace_id)
        async with holding(self._layout, workspace_id, PATIENCE):
            if await self._store.get(workspace_id) is not None:
                raise WorkspaceExists(f"There is a workspace {workspace_id} already.")
            yield

    async def whole(self, found: WorkspaceRecord) -> DiskFacts:
        """Return what the tables of a workspace's disk say; one that was not let go of cleanly is checked throughout.

        Raises:
            WorkspaceDamaged: it is not whole.
        """
        assert found.head is not None
        facts = await self._disks.inspect(await self.files(found.head))
        if facts.size_gb < found.size_gb:
            name = self._layout.disk(found.head)
            raise WorkspaceDamaged(f"{name} has {facts.size_gb} GiB, and should have {found.size_gb}.")
        if not found.is_clean:
            await self._disks.check(self._layout.disk(found.head))
        return facts

    async def files(self, disk_id: DiskId) -> list[Path]:
        """Return the file of a disk and all that it lies on, topmost first."""
        return [self._layout.disk(one) for one in await self._chain(disk_id)]

    async def with_disk(self, found: WorkspaceRecord) -> WorkspaceRecord:
        """Return a workspace that has a disk, if need be since now; the caller holds its lock."""

        async def commit(disks: Sequence[DiskRecord], _clean: bool) -> None:
            await self._store.change(found.id, expected=None, disks=disks, head=disks[-1].id)

        if found.head is None:
            await self.make_first(found, commit, PATIENCE)
        return await self.get(found.id)

    async def make_first(self, found: WorkspaceRecord, commit: Commit, patience: float | None) -> None:
        """Make the disk of a workspace that only a job has named so far; the caller holds its lock.

        Args:
            found: the workspace.
            commit: makes the disk its head.
            patience: how long to wait for the workspace that it begins with, seconds; None is for ever.
        """
        async with AsyncExitStack() as stack:
            making = await stack.enter_async_context(Making(self._layout))
            clean = True
            if found.base_id is None:
                disk = making.new(None)
                await self._disks.blank(self._layout.disk(disk.id), found.size_gb)
            else:
                await stack.enter_async_context(holding(self._layout, found.base_id, patience))
                base = await self._base(found.base_id)
                disk = await self.on_top(making, await self.freeze(base), size_gb=found.size_gb)
                clean = base.is_clean
            await making.offer(commit([disk], clean))

    async def freeze(self, found: WorkspaceRecord) -> DiskId:
        """Return a disk with a workspace's content that is never written to again.

        The caller holds its lock until something that lies on the disk has a row.
        """
        found = await self.with_disk(found)
        facts = await self.whole(found)
        assert found.head is not None
        below = (await self._chain(found.head))[1:]
        if facts.untouched and below:
            # As after a snapshot, or an earlier freeze: no need to have the chain grow.
            base = await self._disks.inspect([self._layout.disk(disk_id) for disk_id in below])
            if base.size_gb == facts.size_gb:
                return below[0]
        async with Making(self._layout) as making:
            disk = await self.on_top(making, found.head)
            await making.offer(self._store.change(found.id, expected=found.head, disks=[disk], head=disk.id))
        return found.head

    async def on_top(self, making: Making, parent: DiskId, *, size_gb: int | None = None) -> DiskRecord:
        """Make a disk whose content is that of its parent; its size too, unless told.

        Raises:
            HostError: it would lie on too many.
        """
        if len(await self._chain(parent)) >= MAX_CHAIN:
            hint = "`magpie workspaces export` and `import` make a new workspace of one file."
            raise HostError(f"The workspace lies on {MAX_CHAIN} disk files; no more are allowed.", hint=hint)
        disk = making.new(parent)
        base = Disk(path=self._layout.disk(parent), format="qcow2", readonly=True)
        await self._disks.overlay(self._layout.disk(disk.id), base, size_gb=size_gb, beside=True)
        return disk

    async def _base(self, base_id: str) -> WorkspaceRecord:
        base = await self.get(base_id)
        if base.in_use_by is not None:
            raise WorkspaceInUse(f"Job {base.in_use_by} has the workspace {base_id}, with which another is to begin.")
        return base

    async def _chain(self, disk_id: DiskId) -> list[DiskId]:
        return chain(disk_id, {disk.id: disk for disk in await self._store.disks()})
