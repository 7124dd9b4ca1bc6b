"""The SQL files: each block has a name, is used, compiles, and the ones that must be fast use an index."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import magpie_local.store
from magpie_local.store.migrate import load_migrations, migrate
from magpie_local.store.session import QUERIES, SCHEMA_VERSION, Session, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

STATEMENTS = [name for name, sql in QUERIES.items() if "PRAGMA" not in sql]


@pytest.fixture
def session() -> Iterator[Session]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        session = Session(connection)
        migrate(session, load_migrations())
        yield session


def plan(session: Session, query: str) -> str:
    anything = defaultdict[str, object](lambda: None, seqs="[]")
    rows = session.connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[query]}", anything)
    return "\n".join(row["detail"] for row in rows)


def test_blocks_are_cut_at_their_names_and_comments_above_the_first_are_dropped() -> None:
    text = "-- All of them.\n\n-- name: one\nSELECT 1;\n\n-- name: two\n-- why\nSELECT 2;\n"
    assert parse(text) == {"one": "SELECT 1;", "two": "-- why\nSELECT 2;"}


def test_every_query_is_used_by_name() -> None:
    folder = Path(magpie_local.store.__file__).parent
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in code] == []


def test_the_migrations_lead_to_the_schema_that_the_code_knows(session: Session) -> None:
    assert session.value("user_version") == SCHEMA_VERSION == max(load_migrations())


@pytest.mark.parametrize("query", STATEMENTS)
def test_every_statement_compiles_against_the_schema(session: Session, query: str) -> None:
    plan(session, query)


@pytest.mark.parametrize(
    "query",
    ["get_job", "get_inputs", "get_story", "newest_seqs_of_state", "save_job", "delete_job", "count_unfinished",
     "oldest_queued", "get_attempt", "save_attempt"],
)  # fmt: skip
def test_what_runs_often_searches_and_never_scans_or_sorts(session: Session, query: str) -> None:
    found = plan(session, query)
    assert "SCAN jobs" not in found
    assert "SCAN events" not in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("unsettled_jobs", "jobs_unsettled"),
        ("requested_jobs", "jobs_requested"),
        ("clear_waiting", "jobs_waiting"),
    ],
)
def test_what_looks_for_the_few_open_jobs_reads_the_index_of_those_alone(
    session: Session, query: str, index: str
) -> None:
    assert index in plan(session, query)
