from __future__ import annotations

import pytest

from magpie_local.store.journal import journal_query, wal_is_safe
from magpie_local.store.needs import sqlite_need


@pytest.mark.parametrize("version", [(3, 44, 6), (3, 44, 9), (3, 50, 7), (3, 51, 3), (3, 52, 0), (4, 0, 0)])
def test_a_library_with_the_mended_wal_uses_it(version: tuple[int, int, int]) -> None:
    assert wal_is_safe(version)
    assert journal_query(version) == "journal_wal"


@pytest.mark.parametrize(
    "version", [(3, 37, 0), (3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 50, 6), (3, 51, 0), (3, 51, 2)]
)
def test_a_library_with_the_wal_reset_bug_uses_a_rollback_journal(version: tuple[int, int, int]) -> None:
    assert not wal_is_safe(version)
    assert journal_query(version) == "journal_persist"


def test_a_library_too_old_for_the_schema_is_a_need_with_a_cure() -> None:
    need = sqlite_need((3, 34, 1))
    assert not need.ok
    assert need.cure is not None
    assert "3.37.0" in need.cure


def test_the_doctor_tells_which_journal_is_used() -> None:
    assert "rollback journal" in sqlite_need((3, 40, 1)).detail
    assert "write-ahead" in sqlite_need((3, 51, 3)).detail
