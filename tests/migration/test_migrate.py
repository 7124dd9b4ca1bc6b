"""Migrations: each whole or not at all, whatever kills it; the old file is kept; the data too (F37)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.layout import Layout
from magpie_local.domain.spec import JobSpec
from magpie_local.errors import StateCorrupt, StateTooNew
from magpie_local.store import migrate as migrations
from magpie_local.store import open_store
from magpie_local.store import session as sessions
from magpie_local.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Stands for the next version's migration.
SECOND = """
BEGIN IMMEDIATE;
ALTER TABLE jobs ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
CREATE TABLE tags (id TEXT PRIMARY KEY) STRICT;
UPDATE jobs SET labels = '{"from": "before"}';
PRAGMA user_version = 2;
COMMIT;
"""
#: Opens the database and is killed at the N-th statement; exits with 0 where there are fewer.
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from magpie_local.store import migrate, session

path, kill_at, second = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if second:
    session.SCHEMA_VERSION = migrate.SCHEMA_VERSION = 2
    first = migrate.load_migrations()
    migrate.load_migrations = lambda: {**first, 2: second}
seen = 0
def count(sql):
    global seen
    seen += 1
    if seen == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
connect = migrate.connect
def traced(*args, **kwargs):
    connection = connect(*args, **kwargs)
    connection.set_trace_callback(count)
    return connection
migrate.connect = traced
migrate.open_database(path, busy_timeout=5).close()
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that turns this process into one of the next version."""

    def become() -> None:
        first = migrations.load_migrations()
        monkeypatch.setattr(migrations, "load_migrations", lambda: {**first, 2: SECOND})
        monkeypatch.setattr(migrations, "SCHEMA_VERSION", 2)
        monkeypatch.setattr(sessions, "SCHEMA_VERSION", 2)

    return become


async def fill(layout: Layout, count: int = 3) -> None:
    async with open_store(layout, ManualClock()) as store:
        await store.jobs.add([(new_job_id(), JobSpec(name=f"job {at}", script=b"true")) for at in range(count)])


def kill_at(path: Path, statement: int, second: str = "") -> bool:
    """Open in a process that is killed at a statement. Returns whether it was."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, str(path), str(statement), second], check=False, timeout=30
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.timeout(120)
async def test_a_kill_at_any_statement_of_the_first_open_leaves_no_database_or_a_whole_one(layout: Layout) -> None:
    statement, left = 0, set()
    while True:
        statement += 1
        layout.root.mkdir(mode=0o700)
        killed = kill_at(layout.database, statement)
        left.add(layout.database.exists())
        if layout.database.exists():
            assert version(layout.database) == 1
        await fill(layout)
        for path in layout.root.iterdir():
            path.unlink()
        layout.root.rmdir()
        if not killed:
            break
    assert statement > 15
    assert left == {False, True}


@pytest.mark.timeout(120)
async def test_a_kill_at_any_statement_of_a_migration_leaves_the_old_schema_or_the_new(layout: Layout) -> None:
    await fill(layout)
    old = layout.database.read_bytes()
    old_schema = schema(layout.database)
    seen, statement, killed = [], 0, True
    while killed:
        statement += 1
        layout.database.write_bytes(old)
        killed = kill_at(layout.database, statement, SECOND)
        seen.append(version(layout.database))
        assert (schema(layout.database) == old_schema) == (seen[-1] == 1)
        with closing(sqlite3.connect(layout.database)) as database:
            assert database.execute("SELECT count(*) FROM jobs").fetchone() == (3,)
        assert not kill_at(layout.database, 0, SECOND)
        assert version(layout.database) == 2
    assert set(seen) == {1, 2}
    assert len(seen) > 8


async def test_a_migration_keeps_the_data_and_a_whole_copy_of_the_old_file(
    layout: Layout, next_version: Callable[[], None]
) -> None:
    await fill(layout)
    next_version()
    migrations.open_database(layout.database, busy_timeout=1).close()
    assert version(layout.database) == 2
    copy = layout.root / "magpie.db.schema1"
    assert version(copy) == 1
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(layout.database)) as database:
        assert database.execute("SELECT DISTINCT labels FROM jobs").fetchall() == [('{"from": "before"}',)]


async def test_a_migrated_database_has_the_schema_of_a_fresh_one(
    layout: Layout, tmp_path: Path, next_version: Callable[[], None]
) -> None:
    await fill(layout)
    next_version()
    migrations.open_database(layout.database, busy_timeout=1).close()
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    migrations.open_database(fresh / "magpie.db", busy_timeout=1).close()
    assert schema(layout.database) == schema(fresh / "magpie.db")


async def test_a_migration_that_fails_changes_nothing(
    layout: Layout, next_version: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(layout)
    before = schema(layout.database)
    next_version()
    broken = SECOND.replace("UPDATE jobs", "UPDATE absent")
    monkeypatch.setattr(migrations, "load_migrations", lambda: {2: broken})
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        migrations.open_database(layout.database, busy_timeout=1)
    assert schema(layout.database) == before
    assert version(layout.database) == 1


async def test_an_older_version_refuses_the_migrated_database(
    layout: Layout, next_version: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(layout)
    next_version()
    migrations.open_database(layout.database, busy_timeout=1).close()
    monkeypatch.undo()
    with pytest.raises(StateTooNew):
        migrations.open_database(layout.database, busy_timeout=1)


async def test_a_damaged_database_is_not_migrated(layout: Layout, next_version: Callable[[], None]) -> None:
    await fill(layout)
    os.truncate(layout.database, layout.database.stat().st_size - 4096)
    next_version()
    with pytest.raises((StateCorrupt, sqlite3.DatabaseError)):
        migrations.open_database(layout.database, busy_timeout=1)
    assert not (layout.root / "magpie.db.schema1").exists()
