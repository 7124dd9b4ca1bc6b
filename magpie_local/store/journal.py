"""Which journal a SQLite library can be trusted with."""

from __future__ import annotations

import sqlite3


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite has no WAL-reset bug.

    In 3.7.0 to 3.51.2 two processes that write and checkpoint at the same instant can lose committed rows. It is
    mended in 3.51.3, and in the back-ports 3.50.7 and 3.44.6 (reliability.md 0.2, F40).
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def journal_query(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """Return the name of the query that sets the journal mode.

    The other mode is PERSIST: a rollback journal that keeps its file, about twice the time a commit (1 ms).
    """
    return "journal_wal" if wal_is_safe(version) else "journal_persist"
