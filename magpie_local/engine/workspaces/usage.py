"""How much space workspaces take on the host."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.workspace import chain

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from magpie_local.domain.layout import Layout
    from magpie_local.domain.workspace import DiskId, WorkspaceRecord
    from magpie_local.ports.workspaces import WorkspaceStore

#: What st_blocks counts, whatever the file system's blocks are (stat(2)).
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The space that one workspace takes with its snapshots, bytes."""

    #: What would be free without it.
    own: int
    #: What it has in common with clones, or with the workspace that it began with.
    shared: int
    #: How many snapshots it has.
    snapshots: int


async def measure(
    layout: Layout, store: WorkspaceStore, workspaces: Sequence[WorkspaceRecord]
) -> dict[str, Usage]:  # fmt: skip
    """Return the usage of each of all workspaces, by id."""
    disks = {disk.id: disk for disk in await store.disks()}
    counts: dict[str, int] = {}
    needs: dict[str, set[DiskId]] = {}
    for workspace in workspaces:
        snapshots = await store.snapshots(workspace.id)
        counts[workspace.id] = len(snapshots)
        tops = [workspace.head, *(snapshot.disk for snapshot in snapshots)]
        needs[workspace.id] = {disk for top in tops for disk in chain(top, disks)}
    users = Counter(disk for need in needs.values() for disk in need)
    sizes = await asyncio.to_thread(_sizes, layout, users)
    found = {}
    for name, need in needs.items():
        own = sum(sizes[disk] for disk in need if users[disk] == 1)
        shared = sum(sizes[disk] for disk in need) - own
        found[name] = Usage(own=own, shared=shared, snapshots=counts[name])
    return found


def _sizes(layout: Layout, disks: Collection[DiskId]) -> dict[DiskId, int]:
    sizes = {}
    for disk in disks:
        try:
            sizes[disk] = layout.disk(disk).stat().st_blocks * _BLOCK
        except FileNotFoundError:
            sizes[disk] = 0
    return sizes
