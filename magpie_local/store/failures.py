"""What SQLite and the file system raise, as what our callers get."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from magpie_local.errors import HostDiskFull, StateCorrupt, StateError, StateUnavailable
from magpie_local.store.patience import is_busy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REFUSED = {
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOLFS,
}  # fmt: skip
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def typed(database: Path) -> Iterator[None]:
    """Raise StateError kinds in place of sqlite3's and the system's errors."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a mistake of ours, not a state of the file
    except sqlite3.Error as error:
        raise translate(error, database) from error
    except UnicodeDecodeError as error:  # damage that SQLite's own message quotes
        raise StateCorrupt(f"{database} is damaged: it holds text that is no UTF-8.") from error
    except OSError as error:
        raise translate_os(error, database) from error


def translate(error: sqlite3.Error, database: Path) -> StateError:
    """Return the typed error for one of SQLite's.

    Our SQL is fixed and tested, so a complaint about it (unknown column, wrong type) means that the file is not as we
    wrote it: damage.
    """
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # none: text that is no UTF-8
    code = extended & 0xFF  # the low byte is the primary code
    if code == sqlite3.SQLITE_FULL:
        return HostDiskFull(f"The disk of {database.parent} is full.")
    if is_busy(error):
        return StateUnavailable(
            f"Another process holds the lock on {database}.",
            hint="Close what has it open for long (an sqlite3 shell, a backup), then try again.",
        )
    if code in _REFUSED:
        return StateUnavailable(f"{database} can't be read or written: {error}.")
    if code == sqlite3.SQLITE_TOOBIG:
        return StateError(f"A value is too large for the database: {error}.", hint="")
    return StateCorrupt(f"{database} is damaged: {error}.")


def translate_os(error: OSError, database: Path) -> StateError:
    """Return the typed error for one of the file system's."""
    if error.errno in _FULL:
        return HostDiskFull(f"The disk of {database.parent} is full.")
    return StateUnavailable(f"{error.filename or database} can't be read or written: {error.strerror or error}.")
