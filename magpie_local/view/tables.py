"""Lists as data: the same columns for a terminal, a notebook and a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from magpie_local.domain.sizes import GIB, MIB, format_bytes, format_seconds
from magpie_local.view.plain import cut
from magpie_local.view.words import SHORT, finer_state, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from magpie_local.api.models import Job
    from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below their heads; the last column may have none."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    #: The columns that hold quantities, by number.
    quantities: frozenset[int] = frozenset()


class Entry(Protocol):
    """An entry of a folder in a VM."""

    @property
    def name(self) -> str:
        """Its name; the VM's choice, which may be anything."""

    @property
    def kind(self) -> str:
        """What it is: file, folder, link or other."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def modified(self) -> float:
        """Unix time, seconds."""


def jobs_table(jobs: Iterable[Job]) -> Table:
    """Return a list of jobs, each with why it waits or failed."""
    rows = (
        (
            job.id[:SHORT],
            cut(job.name, 30),
            job.status,
            str(job.vcpus),
            format_bytes(job.memory_mb * MIB),
            moment(job.created_at),
            "-" if job.duration is None else format_seconds(job.duration),
            "-" if job.exit_code is None else str(job.exit_code),
            cut(job.waiting or job.reason or finer_state(job) or "", 60),
        )
        for job in jobs
    )
    head = ("ID", "Name", "Status", "CPUs", "Memory", "Created", "Took", "Exit", "")
    return Table(head, tuple(rows), frozenset({3, 4, 6, 7}))


def workspaces_table(workspaces: Iterable[WorkspaceInfo]) -> Table:
    """Return a list of workspaces, each with who has it."""
    rows = (
        (
            one.id,
            format_bytes(one.size_gb * GIB),
            format_bytes(one.used + one.shared),
            moment(one.used_at),
            str(one.snapshots),
            one.last_job[:SHORT] if one.last_job else "-",
            workspace_use(one),
        )
        for one in workspaces
    )
    head = ("ID", "Size", "On host", "Used", "Snapshots", "Last job", "")
    return Table(head, tuple(rows), frozenset({1, 2, 4}))


def snapshots_table(snapshots: Iterable[SnapshotInfo]) -> Table:
    """Return a list of snapshots."""
    rows = ((one.name, format_bytes(one.size_gb * GIB), moment(one.created_at)) for one in snapshots)
    return Table(("Name", "Size", "Created"), tuple(rows), frozenset({1}))


def files_table(entries: Iterable[Entry]) -> Table:
    """Return what is in a folder, folders first."""
    ordered = sorted(entries, key=lambda one: (one.kind != "folder", one.name))
    rows = (
        (
            one.name + ("/" if one.kind == "folder" else ""),
            one.kind,
            format_bytes(one.size) if one.kind == "file" else "-",
            moment(_time(one.modified)),
        )
        for one in ordered
    )
    return Table(("Name", "Kind", "Size", "Changed"), tuple(rows), frozenset({2}))


def workspace_use(one: WorkspaceInfo) -> str:
    """Return who has a workspace, and how many want it; empty for nobody."""
    words = []
    if one.in_use_by is not None:
        words.append(f"job {one.in_use_by[:SHORT]} has it")
    if one.waiting:
        words.append(f"{one.waiting} wait for it")
    return ", ".join(words)


def table_text(data: Table) -> str:
    """Return a table for a terminal, its heads in capitals."""
    return table([name.upper() for name in data.head], data.rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in columns as wide as their widest cell; no trailing blanks."""
    lines = [head, *rows] if head else list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _time(seconds: float) -> datetime | None:
    """Return a time that a VM has told; None where it can't be one."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone()
    except (OverflowError, OSError, ValueError):
        return None
