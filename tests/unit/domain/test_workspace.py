"""Ids, names and chains. F80: an id is refused by one kind of error, or leads nowhere but into the state directory."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.domain.layout import Layout
from magpie_local.domain.workspace import (
    MAX_SIZE_GB,
    DiskId,
    DiskRecord,
    chain,
    check_size,
    check_snapshot_name,
    check_workspace_id,
    new_disk_id,
    unreferenced,
)
from magpie_local.engine.workspaces.locking import WorkspaceLock
from magpie_local.errors import InvalidInput

HOSTILE = [
    "", ".", "..", "../x", "/etc", "/etc/passwd", "a/b", "a\\b", "-rf", "-", "~", "~root", "CON", "A", "aB", "a b",
    "a.", "a ", " a", "a\n", "a\0", "a\0b", "\u00e9", "e\u0301", "\uff41", "a\u202eb", "1" * 64, "x" * 300, "a;b",
    "$(id)", "a_b", "json:{}", "%2e%2e", "\ud800",
]  # fmt: skip
FINE = ["a", "0", "my-project", "a" * 63, "1-2-3", "a-", "3f2a9c1e-0000-4000-8000-000000000001"]

#: Paths that this process opens while a list is here.
_opened: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened and event == "open":
        _opened[-1].append(str(arguments[0]))


sys.addaudithook(_hook)


@pytest.fixture(scope="module")
def layout() -> Any:
    with tempfile.TemporaryDirectory(prefix="mag") as folder:
        made = Layout(Path(folder) / "state", Path(folder) / "run")
        made.workspaces.mkdir(parents=True)
        yield made


def use(layout: Layout, workspace_id: object) -> list[str]:
    """Check an id and, where it is fine, lock the workspace; return the paths that were opened."""
    _opened.append([])
    try:
        lock = WorkspaceLock(layout.workspace_lock(check_workspace_id("workspace_id", workspace_id)))
        assert lock.acquire()
        lock.discard()
    except InvalidInput:
        assert _opened[-1] == []
    return _opened.pop()


@pytest.mark.parametrize("value", [*HOSTILE, None, 5, b"a", ["a"], True], ids=repr)
def test_what_is_no_id_is_refused_by_name_and_value(value):
    with pytest.raises(InvalidInput, match="base_workspace_id") as caught:
        check_workspace_id("base_workspace_id", value)
    assert caught.value.value == value


@pytest.mark.parametrize("value", FINE)
def test_the_seeds_ids_are_fine(layout, value):
    assert use(layout, value) == [str(layout.workspaces / f"{value}.lock")]


@settings(max_examples=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=80), st.from_regex(r"[a-z0-9./~-]{0,70}"), st.sampled_from(HOSTILE + FINE)))
def test_every_path_lies_in_the_state_directory(layout, value):
    for path in use(layout, value):
        assert Path(path).resolve().parent == layout.workspaces.resolve()


def test_the_hook_sees_what_leaves_the_state_directory(layout):
    _opened.append([])
    Path("/etc/hostname").read_bytes()

    assert _opened.pop() == ["/etc/hostname"]


@given(st.text(max_size=70))
def test_a_snapshots_name_is_no_path_and_no_option(value):
    try:
        assert check_snapshot_name(value) == value
    except InvalidInput:
        return
    assert value[0].isalnum()
    assert set(value).isdisjoint("/\\\n\0 ")


@pytest.mark.parametrize("value", [0, -1, MAX_SIZE_GB + 1, 1.5, "10", None, True])
def test_what_is_no_size_is_refused(value):
    with pytest.raises(InvalidInput, match="workspace_size_gb"):
        check_size(value)


def test_a_size_has_a_least():
    assert check_size(5, 5) == 5
    with pytest.raises(InvalidInput, match="from 5"):
        check_size(4, 5)


def records(*pairs: tuple[str, str | None]) -> dict[DiskId, DiskRecord]:
    return {
        DiskId(one): DiskRecord(id=DiskId(one), parent=None if parent is None else DiskId(parent))
        for one, parent in pairs
    }


def test_a_chain_goes_down_to_its_last_disk():
    disks = records(("a", None), ("b", "a"), ("c", "b"), ("d", "a"))

    assert chain(DiskId("c"), disks) == ["c", "b", "a"]
    assert chain(DiskId("d"), disks) == ["d", "a"]
    assert chain(None, disks) == []


def test_a_chain_ends_at_what_is_not_known_and_never_runs_in_a_circle():
    assert chain(DiskId("b"), records(("b", "gone"))) == ["b"]
    assert chain(DiskId("a"), records(("a", "b"), ("b", "a"))) == ["a", "b"]


def test_what_nothing_needs_goes_overlays_first():
    disks = records(("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", None), ("f", "e"))

    leaving = unreferenced(disks.values(), [DiskId("d")])

    assert set(leaving) == {"b", "c", "e", "f"}
    assert leaving.index(DiskId("c")) < leaving.index(DiskId("b"))
    assert leaving.index(DiskId("f")) < leaving.index(DiskId("e"))


@given(st.lists(st.integers(0, 30), max_size=20), st.sets(st.integers(0, 20), max_size=5))
def test_what_goes_is_never_below_what_stays(parents, named):
    disks = [
        DiskRecord(id=DiskId(str(at)), parent=DiskId(str(parent)) if parent < at else None)
        for at, parent in enumerate(parents)
    ]
    needed = {one for top in named for one in chain(DiskId(str(top)), {disk.id: disk for disk in disks})}

    leaving = unreferenced(disks, [DiskId(str(one)) for one in named])

    assert set(leaving) == {disk.id for disk in disks} - needed
    below = {disk.id: disk.parent for disk in disks}
    assert all(below[one] not in leaving[:at] for at, one in enumerate(leaving))


def test_disk_ids_are_fresh():
    assert new_disk_id() != new_disk_id()
