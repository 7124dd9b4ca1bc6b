"""What the API returns of workspaces: frozen views of the moment they were read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import format_bytes

if TYPE_CHECKING:
    from magpie_local.domain.workspace import SnapshotRecord, WorkspaceRecord
    from magpie_local.engine.workspaces import Usage


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WorkspaceInfo:
    """A workspace: a disk that outlives jobs, mounted at /workspace of those that name it (seed 002)."""

    id: str
    #: Virtual size.
    size_gb: int
    #: Bytes on the host that it alone takes, snapshots included, and those that it shares with others.
    used: int
    shared: int
    created_at: datetime
    used_at: datetime | None
    #: The job that had it last; may be deleted by now.
    last_job: str | None
    #: The job that has it now.
    in_use_by: str | None
    #: How many queued jobs want it.
    waiting: int
    #: The workspace that its content began with.
    base: str | None
    #: Whether its file system was unmounted by the last VM; otherwise the next one checks it.
    is_clean: bool
    #: What the last check said: e2fsck's exit code; None where none was needed.
    fsck: int | None
    #: How many snapshots it has.
    snapshots: int

    def __repr__(self) -> str:
        use = "" if self.in_use_by is None else f" in use by {self.in_use_by[:8]}"
        return f"<Workspace {self.id} {self.size_gb} GiB, {format_bytes(self.used)} used{use}>"

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        plain = (
            "id", "size_gb", "used", "shared", "last_job", "in_use_by", "waiting", "base", "is_clean", "fsck",
            "snapshots",
        )  # fmt: skip
        times = {"created_at": self.created_at, "used_at": self.used_at}
        return {name: getattr(self, name) for name in plain} | {
            name: time and time.isoformat() for name, time in times.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A named state of a workspace."""

    #: The workspace's id.
    workspace: str
    name: str
    size_gb: int
    created_at: datetime

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        plain = {"workspace": self.workspace, "name": self.name, "size_gb": self.size_gb}
        return plain | {"created_at": self.created_at.isoformat()}


def workspace_of(record: WorkspaceRecord, usage: Usage) -> WorkspaceInfo:
    """Return the public view of a stored workspace."""
    return WorkspaceInfo(
        id=record.id, size_gb=record.size_gb, used=usage.own, shared=usage.shared,
        created_at=_time(record.created_at), used_at=None if record.used_at is None else _time(record.used_at),
        last_job=record.last_job, in_use_by=record.in_use_by, waiting=record.waiting, base=record.base_id,
        is_clean=record.is_clean, fsck=record.fsck, snapshots=usage.snapshots,
    )  # fmt: skip


def snapshot_of(record: SnapshotRecord) -> SnapshotInfo:
    """Return the public view of a stored snapshot."""
    return SnapshotInfo(
        workspace=record.workspace_id, name=record.name, size_gb=record.size_gb, created_at=_time(record.created_at)
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
