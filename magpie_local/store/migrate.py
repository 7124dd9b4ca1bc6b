"""The database file: made whole or not at all, and brought to the present schema.

A new database is built under another name and renamed into place, so that whatever stands at the right name was
finished once, and an empty file there is damage. A migration is one transaction that ends with its own
`PRAGMA user_version`. Both happen under a lock on the folder; opening an up-to-date database takes no lock.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from magpie_local.errors import StateCorrupt, StateTooNew, StateUnavailable
from magpie_local.store import folder
from magpie_local.store.session import SCHEMA_VERSION, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

APPLICATION_ID = 0x4D475049  # "MGPI"
_LEFTOVERS = ("-journal", "-wal", "-shm")
#: Whole files up to this size are checked at each open (measured: about 10 ms a MiB); larger ones as they are read.
_CHECKED_SIZE = 2 * 1024 * 1024


def load_migrations() -> dict[int, str]:
    """Return the migrations by number."""
    found = sorted(files(__package__).joinpath("migrations").iterdir(), key=lambda file: file.name)
    return {int(file.name[:4]): file.read_text() for file in found if file.name.endswith(".sql")}


def open_database(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    """Return a connection to the database at `path`, which is made or migrated where needed.

    A folder that can't be written gives a connection that only reads.

    Raises:
        StateError: any of its kinds, within a second unless another process holds the lock.
    """
    if folder.is_writable(path.parent) and not os.path.lexists(path):
        with _folder_lock(path.parent, busy_timeout):
            if not os.path.lexists(path):
                _create(path)
    check_file(path)
    connection = connect(path, busy_timeout=busy_timeout, writable=can_write(path))
    try:
        check_content(Session(connection), path)
        _bring_up_to_date(Session(connection), path, busy_timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def can_write(path: Path) -> bool:
    """Return whether this process may change an existing database: the file, and the folder of its journal."""
    return folder.is_writable(path.parent) and os.access(path, os.W_OK)


def connect(path: Path, *, busy_timeout: float, writable: bool = True) -> sqlite3.Connection:
    """Return a connection to an existing file; never makes one (F23)."""
    mode = "rw" if writable else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)


def migrate(session: Session, migrations: Mapping[int, str]) -> None:
    """Run the migrations that the file lacks, each in its own transaction."""
    for number in sorted(migrations):
        if number > session.value("user_version"):
            try:
                session.connection.executescript(migrations[number])
            except BaseException:
                session.rollback()
                raise


def _create(path: Path) -> None:
    for suffix in _LEFTOVERS:  # the journal of a database that was removed must not be played into the new one
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # whatever the umask; SQLite gives its journals the mode of the database
    os.close(descriptor)
    try:
        with closing(connect(draft, busy_timeout=0)) as connection:
            migrate(Session(connection), load_migrations())
        draft.rename(path)
    except BaseException:
        for leftover in (draft, draft.with_name(f"{draft.name}-journal")):
            leftover.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def check_file(path: Path) -> None:
    """Raise StateError where the file can't be a database of ours, without opening it."""
    # The file is never opened but by SQLite: closing a second descriptor would drop the locks of this process.
    try:
        facts = path.lstat()
    except FileNotFoundError:
        raise StateUnavailable(f"There is no database in {path.parent}, and none can be made there.") from None
    if not stat.S_ISREG(facts.st_mode):
        raise StateCorrupt(f"{path} is no regular file.")
    if facts.st_size == 0:
        raise StateCorrupt(f"{path} is empty.")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateUnavailable(f"Other users may write to {path}.", hint=f"Run: chmod 600 {path}")


def check_content(session: Session, path: Path) -> None:
    """Raise StateError where an open database is not ours, too new or damaged; changes nothing."""
    if session.value("application_id") != APPLICATION_ID:
        raise StateCorrupt(f"{path} is a database of another program.")
    version = session.value("user_version")
    if version < 1:  # a new file is never at its place before its schema is
        raise StateCorrupt(f"{path} has no schema.")
    if version > SCHEMA_VERSION:
        raise StateTooNew(f"{path} has schema {version}; this version of magpie_local knows {SCHEMA_VERSION}.")
    if path.stat().st_size <= _CHECKED_SIZE:
        verdict = session.value("integrity_check")
        if verdict != "ok":
            raise StateCorrupt(f"{path} is damaged: {verdict}.")


def _bring_up_to_date(session: Session, path: Path, busy_timeout: float) -> None:
    if session.value("user_version") == SCHEMA_VERSION:
        return
    with _folder_lock(path.parent, busy_timeout):
        version = session.value("user_version")
        if version < SCHEMA_VERSION:
            keep_copy(session.connection, path.with_name(f"{path.name}.schema{version}"))
            migrate(session, load_migrations())


def keep_copy(source: sqlite3.Connection, target: Path) -> None:
    """Write a whole copy of an open database beside it: the way back from a migration."""
    draft = target.with_name(f"{target.name}.new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with closing(connect(draft, busy_timeout=0)) as copy:
            source.backup(copy)
        draft.rename(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


@contextmanager
def _folder_lock(path: Path, timeout: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise StateUnavailable(f"Another process has been preparing {path} for {timeout:.0f} s.")
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
