"""Rows become frozen dataclasses at once, and back."""

from __future__ import annotations

import json
from contextlib import contextmanager
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import TYPE_CHECKING

from magpie_local.domain.ids import JobId, VmId
from magpie_local.domain.job import Attempt, Event, JobRecord
from magpie_local.domain.network import Member, NetworkRecord
from magpie_local.domain.states import EventKind, ScriptState, VmState, Wish
from magpie_local.domain.workspace import DiskRecord, SnapshotRecord, WorkspaceRecord
from magpie_local.errors import StateCorrupt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping


def job_record(row: sqlite3.Row) -> JobRecord:
    """Return one row of the view job_records."""
    with _damage_named("job"):
        values = dict(row)
        values["id"] = JobId(values["id"])
        values["env"] = _mapping(values["env"])
        values["secret_names"] = tuple(str(name) for name in json.loads(values["secret_names"]))
        values["outputs"] = tuple(str(pattern) for pattern in json.loads(values["outputs"]))
        values["persistent"] = bool(values["persistent"])
        values["script_state"] = ScriptState(values["script_state"])
        values["vm_state"] = VmState(values["vm_state"])
        values["wish"] = Wish(values["wish"]) if values["wish"] is not None else None
        return JobRecord(**values)


def attempt_record(row: sqlite3.Row) -> Attempt:
    """Return one row of the view attempt_records."""
    with _damage_named("attempt"):
        values = dict(row)
        values["job_id"] = JobId(values["job_id"])
        values["vm_id"] = VmId(values["vm_id"])
        values["intended"] = bool(values["intended"])
        return Attempt(**values)


def event_record(row: sqlite3.Row) -> Event:
    """Return one row of the query get_story."""
    with _damage_named("event"):
        values = dict(row)
        values["job_id"] = JobId(values["job_id"])
        values["kind"] = EventKind(values["kind"])
        values["detail"] = _mapping(values["detail"])
        return Event(**values)


def workspace_record(row: sqlite3.Row) -> WorkspaceRecord:
    """Return one row of the view workspace_records."""
    with _damage_named("workspace"):
        values = dict(row)
        values["is_clean"] = bool(values["is_clean"])
        return WorkspaceRecord(**values)


def disk_record(row: sqlite3.Row) -> DiskRecord:
    """Return one row of the query all_disks."""
    with _damage_named("disk"):
        return DiskRecord(**dict(row))


def snapshot_record(row: sqlite3.Row) -> SnapshotRecord:
    """Return one row of the query workspace_snapshots."""
    with _damage_named("snapshot"):
        return SnapshotRecord(**dict(row))


def network_record(row: sqlite3.Row) -> NetworkRecord:
    """Return one row of the view network_records."""
    with _damage_named("network"):
        return NetworkRecord(**dict(row) | {"cidr": IPv4Network(row["cidr"])})


def member_record(row: sqlite3.Row) -> Member:
    """Return one row of the query network_members."""
    with _damage_named("member of a network"):
        return Member(job_id=row["id"], name=row["name"], address=row["address"], address6=row["address6"])


def as_json(mapping: Mapping[str, object]) -> str:
    """Return a mapping as the text that a row holds: readable, not escaped."""
    return json.dumps(dict(mapping), ensure_ascii=False)


def _mapping(text: str) -> MappingProxyType[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"{text[:40]!r} is no JSON object")
    return MappingProxyType(found)


@contextmanager
def _damage_named(noun: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise StateCorrupt(f"The database holds a {noun} that can't be read: {error}.") from error
