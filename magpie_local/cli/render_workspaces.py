"""Workspaces as text: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.sizes import GIB, format_bytes
from magpie_local.view import tables
from magpie_local.view.words import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo


def workspaces_table(workspaces: Sequence[WorkspaceInfo]) -> str:
    """Return a list of workspaces, one a line."""
    return tables.table_text(tables.workspaces_table(workspaces))


def workspace_details(one: WorkspaceInfo) -> str:
    """Return everything known of one workspace, one fact a line."""
    left = "unmounted" if one.is_clean else "not unmounted; the next job checks it"
    facts = {
        "workspace": one.id,
        "size": format_bytes(one.size_gb * GIB),
        "on host": format_bytes(one.used) + (f", and {format_bytes(one.shared)} shared" if one.shared else ""),
        "began with": one.base,
        "created": moment(one.created_at),
        "used": moment(one.used_at),
        "last job": one.last_job,
        "use": tables.workspace_use(one),
        "file system": left if one.fsck is None else f"{left} (e2fsck said {one.fsck})",
        "snapshots": one.snapshots,
    }
    return "\n".join(f"{name + ':':<13} {value}" for name, value in facts.items() if value not in (None, "", "-"))


def snapshots_table(snapshots: Sequence[SnapshotInfo]) -> str:
    """Return a list of snapshots, one a line."""
    return tables.table_text(tables.snapshots_table(snapshots))
