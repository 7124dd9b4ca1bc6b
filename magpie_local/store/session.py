"""Named SQL, and a connection that runs it. No SQL stands in Python: it lies in queries/*.sql, in blocks like

-- name: get_job
SELECT ...
"""

from __future__ import annotations

import re
import sqlite3
from importlib.resources import files
from typing import Any

from magpie_local.errors import StateTooNew

_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)

#: The schema that this version reads and writes: the number of the newest migration.
SCHEMA_VERSION = 1


def parse(text: str) -> dict[str, str]:
    """Return the named blocks of one file; what stands before the first is a comment."""
    _, *parts = _HEADING.split(text)
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def load() -> dict[str, str]:
    """Return all queries by name.

    Raises:
        ValueError: two blocks have one name.
    """
    queries: dict[str, str] = {}
    for file in sorted(files(__package__).joinpath("queries").iterdir(), key=lambda file: file.name):
        block = parse(file.read_text())
        if twice := queries.keys() & block.keys():
            raise ValueError(f"{file.name}: a query of this name exists already: {', '.join(sorted(twice))}")
        queries |= block
    return queries


QUERIES = load()


class Session:
    """One connection, as the store's functions see it. Lives on the connection's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        self.connection = connection

    def rows(self, query: str, **values: object) -> list[sqlite3.Row]:
        """Run a query, return all rows."""
        return self.connection.execute(QUERIES[query], values).fetchall()

    def row(self, query: str, **values: object) -> sqlite3.Row | None:
        """Run a query, return its first row."""
        return next(iter(self.rows(query, **values)), None)

    def value(self, query: str, **values: object) -> Any:
        """Run a query, return the first column of its first row; None where there is none."""
        row = self.row(query, **values)
        return None if row is None else row[0]

    def run(self, query: str, **values: object) -> None:
        """Run a query for its effect."""
        self.connection.execute(QUERIES[query], values).close()

    def check_version(self) -> None:
        """Stand down where a later version has migrated the file while this process had it open (F38).

        Raises:
            StateTooNew: it has.
        """
        found = self.value("user_version")
        if found != SCHEMA_VERSION:
            raise StateTooNew(f"The state directory has schema {found} now; this process knows {SCHEMA_VERSION}.")

    def rollback(self) -> None:
        """End a transaction without its changes; SQLite may have done so itself, as on a full disk (F29)."""
        if self.connection.in_transaction:
            self.run("rollback")
