"""What the store needs of this machine, for `magpie doctor`. Nothing is made or changed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from magpie_local.domain.need import Need
from magpie_local.domain.sizes import GIB, format_bytes
from magpie_local.errors import StateError
from magpie_local.store import folder
from magpie_local.store.failures import typed
from magpie_local.store.journal import wal_is_safe
from magpie_local.store.migrate import check_content, check_file, connect
from magpie_local.store.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.layout import Layout

#: STRICT tables; RETURNING came before.
_LEAST_SQLITE = (3, 37, 0)
_LEAST_SPACE = 1 * GIB


def needs(layout: Layout) -> list[Need]:
    """Return the store's needs: SQLite, state directory, free space, database."""
    return [
        sqlite_need(sqlite3.sqlite_version_info),
        _folder_need(layout.root),
        _space_need(layout.root),
        _database_need(layout.database),
    ]


def sqlite_need(version: tuple[int, ...]) -> Need:
    """Return whether this SQLite library will do, and which journal it is trusted with."""
    if version < _LEAST_SQLITE:
        least = _dotted(_LEAST_SQLITE)
        return Need(
            name="SQLite", ok=False, detail=f"{_dotted(version)} is too old", cure=f"use a Python with SQLite {least}"
        )
    mode = "write-ahead log" if wal_is_safe(version) else "rollback journal, because this version's WAL can lose rows"
    return Need(name="SQLite", ok=True, detail=f"{_dotted(version)}, {mode}", cure=None)


def _folder_need(root: Path) -> Need:
    name = "state directory"
    if not root.exists():
        return Need(name=name, ok=True, detail=f"{root} (made at the first use)", cure=None)
    try:
        with typed(root):
            folder.check(root)
    except StateError as error:
        return Need(name=name, ok=False, detail=error.message, cure=error.hint)
    if not folder.is_writable(root):
        return Need(name=name, ok=False, detail=f"{root} can only be read", cure="choose another with MAGPIE_HOME")
    kind = folder.file_system(root.resolve(), folder.mounts()) or "unknown file system"
    return Need(name=name, ok=True, detail=f"{root} on {kind}", cure=None)


def _space_need(root: Path) -> Need:
    place = next(path for path in (root, *root.absolute().parents) if path.exists())
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    cure = None if free >= _LEAST_SPACE else "free some space, or choose another disk with MAGPIE_HOME"
    return Need(name="free space", ok=cure is None, detail=f"{format_bytes(free)} at {place}", cure=cure)


def _database_need(path: Path) -> Need:
    name = "job database"
    if not path.exists():
        return Need(name=name, ok=True, detail="none yet", cure=None)
    try:
        with typed(path):
            check_file(path)
            with closing(connect(path, busy_timeout=0.5, writable=False)) as connection:
                check_content(Session(connection), path)
    except StateError as error:
        return Need(name=name, ok=False, detail=error.message, cure=error.hint)
    return Need(name=name, ok=True, detail=format_bytes(path.stat().st_size), cure=None)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
