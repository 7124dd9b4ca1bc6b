"""Workspaces as text: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.cli.render import SHORT, table
from magpie_local.domain.sizes import GIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo


def workspaces_table(workspaces: Sequence[WorkspaceInfo]) -> str:
    """Return a list of workspaces, one a line."""
    head = ("ID", "SIZE", "ON HOST", "USED", "SNAPSHOTS", "LAST JOB", "")
    rows = [
        (
            one.id,
            format_bytes(one.size_gb * GIB),
            format_bytes(one.used + one.shared),
            _moment(one.used_at),
            str(one.snapshots),
            one.last_job[:SHORT] if one.last_job else "-",
            _use(one),
        )
        for one in workspaces
    ]
    return table(head, rows)


def workspace_details(one: WorkspaceInfo) -> str:
    """Return everything known of one workspace, one fact a line."""
    left = "unmounted" if one.is_clean else "not unmounted; the next job checks it"
    facts = {
        "workspace": one.id,
        "size": format_bytes(one.size_gb * GIB),
        "on host": format_bytes(one.used) + (f", and {format_bytes(one.shared)} shared" if one.shared else ""),
        "began with": one.base,
        "created": _moment(one.created_at),
        "used": _moment(one.used_at),
        "last job": one.last_job,
        "use": _use(one),
        "file system": left if one.fsck is None else f"{left} (e2fsck said {one.fsck})",
        "snapshots": one.snapshots,
    }
    return "\n".join(f"{name + ':':<13} {value}" for name, value in facts.items() if value not in (None, "", "-"))


def snapshots_table(snapshots: Sequence[SnapshotInfo]) -> str:
    """Return a list of snapshots, one a line."""
    rows = [(one.name, format_bytes(one.size_gb * GIB), _moment(one.created_at)) for one in snapshots]
    return table(("NAME", "SIZE", "CREATED"), rows)


def _use(one: WorkspaceInfo) -> str:
    words = []
    if one.in_use_by is not None:
        words.append(f"job {one.in_use_by[:SHORT]} has it")
    if one.waiting:
        words.append(f"{one.waiting} wait for it")
    return ", ".join(words)


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
