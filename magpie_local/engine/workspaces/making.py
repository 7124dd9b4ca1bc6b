"""New disk files, from their first byte until a row names them; and the sweep of those that never were.

Whoever makes a file holds a flock on it until its row is committed. (QEMU's own locks on images are of another kind.)
So a sweep, which takes that lock before it looks at the rows, removes only what a crash has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from magpie_local.domain.workspace import DiskId, DiskRecord, new_disk_id
from magpie_local.engine.faults import fault_point
from magpie_local.engine.workspaces.locking import WorkspaceLock
from magpie_local.errors import LeadershipLost, WorkspaceExists, WorkspaceInUse, WorkspaceNotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection
    from types import TracebackType

    from magpie_local.domain.layout import Layout
    from magpie_local.ports.workspaces import WorkspaceStore

T = TypeVar("T")

#: With these the store says that it has written nothing; after anything else the rows may be there.
_REFUSALS = (WorkspaceExists, WorkspaceInUse, WorkspaceNotFound, LeadershipLost)


class Making:
    """A context in which disk files are made; those that were not offered to the store are removed at its end."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._locks: dict[DiskId, WorkspaceLock] = {}
        self._offered = False

    async def __aenter__(self) -> Making:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        for lock in self._locks.values():
            if self._offered and not isinstance(error, _REFUSALS):
                lock.release()
            else:
                lock.discard()

    def new(self, parent: DiskId | None) -> DiskRecord:
        """Return the record of a new disk, whose file is there, empty."""
        while True:
            disk = DiskRecord(id=new_disk_id(), parent=parent)
            lock = WorkspaceLock(self._layout.disk(disk.id))
            if lock.acquire():
                self._locks[disk.id] = lock
                return disk

    async def offer(self, change: Awaitable[T]) -> T:
        """Have the store name the files, and return what it says."""
        fault_point("W1.after")
        self._offered = True
        result = await change
        fault_point("W2.after")
        return result


async def collect(layout: Layout, store: WorkspaceStore) -> None:
    """Remove the disks that nothing needs any more."""
    leaving = await store.forget_unreferenced()
    fault_point("W3.after")
    await asyncio.to_thread(_remove, layout, leaving)


async def sweep(layout: Layout, store: WorkspaceStore) -> list[str]:
    """Remove what a crash left in the folder of workspaces, and return the names: disks and locks without a row."""
    known = await _names(layout, store)
    names = await asyncio.to_thread(_listing, layout)
    locks = {name: WorkspaceLock(layout.workspaces / name) for name in names if name not in known}
    held = {name: lock for name, lock in locks.items() if lock.acquire()}
    try:
        # Only now: what somebody was making may have got its row before its lock was free.
        known = await _names(layout, store)
        removed = sorted(held.keys() - known)
        for name in removed:
            held[name].discard()
        return removed
    finally:
        for lock in held.values():
            lock.release()


async def _names(layout: Layout, store: WorkspaceStore) -> set[str]:
    """Return the names of the files that rows stand for."""
    disks = {layout.disk(disk.id).name for disk in await store.disks()}
    return disks | {layout.workspace_lock(workspace.id).name for workspace in await store.all()}


def _listing(layout: Layout) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return [path.name for path in layout.workspaces.iterdir() if path.suffix in (".qcow2", ".lock")]
    return []


def _remove(layout: Layout, disks: Collection[DiskId]) -> None:
    for disk_id in disks:
        layout.disk(disk_id).unlink(missing_ok=True)
