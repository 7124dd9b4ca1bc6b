"""The store: SQLite, reached from any number of processes. The only package that speaks SQL.

store        both ports on one database: open_store
jobs leader  the ports (ports/store.py), each method one transaction
steps rows   what happens inside a transaction; rows to dataclasses
database     a connection that reads, and a writer that gathers commits
connection   a thread each; session: named queries on it
migrate      the file: made whole, checked, brought up to date; migrations/*.sql, queries/*.sql
folder       the state directory's privacy and file system; identity: which one it is
needs        what `magpie doctor` shows
"""

from __future__ import annotations

from magpie_local.store.needs import needs
from magpie_local.store.store import Store, open_store

__all__ = ["Store", "needs", "open_store"]
