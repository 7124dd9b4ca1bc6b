"""Workspaces through both faces, on files that stand in for disks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo
from magpie_local.errors import InvalidInput, WorkspaceExists, WorkspaceNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

RECENT = timedelta(minutes=5)


@pytest.fixture
def workspaces(client: Any) -> Any:
    """The verbs; what a test has made is deleted."""
    yield client.workspaces
    for one in client.workspaces.list():
        client.workspaces.delete(one.id)


def test_a_new_workspace_is_listed_with_all_that_is_known(workspaces: Any) -> None:
    made = workspaces.create("my-project", 5)

    assert workspaces.list() == [made] == [workspaces.get("my-project")]
    assert isinstance(made, WorkspaceInfo)
    assert datetime.now(UTC) - made.created_at < RECENT
    plain = made.to_json()
    assert plain.pop("created_at") == made.created_at.isoformat()
    assert plain.pop("used") == made.used > 0
    assert plain == {
        "id": "my-project", "size_gb": 5, "shared": 0, "used_at": None, "last_job": None, "in_use_by": None,
        "waiting": 0, "base": None, "is_clean": True, "fsck": None, "snapshots": 0,
    }  # fmt: skip
    assert repr(made).startswith("<Workspace my-project 5 GiB")


def test_the_size_is_ten_or_that_of_the_base(workspaces: Any) -> None:
    assert workspaces.create("w").size_gb == 10
    assert workspaces.resize("w", 12).size_gb == 12
    derived = workspaces.create("derived", base_workspace_id="w")
    assert (derived.size_gb, derived.base, derived.shared > 0) == (12, "w", True)


def test_snapshots_are_kept_listed_rolled_back_to_and_forgotten(workspaces: Any) -> None:
    workspaces.create("w", 3)

    made = workspaces.snapshot("w", "before")
    workspaces.resize("w", 4)

    assert isinstance(made, SnapshotInfo)
    assert workspaces.snapshots("w") == [made]
    assert made.to_json() == {
        "workspace": "w", "name": "before", "size_gb": 3, "created_at": made.created_at.isoformat()
    }  # fmt: skip
    assert workspaces.get("w").snapshots == 1
    assert workspaces.rollback("w", "before").size_gb == 3
    assert str(workspaces.remove_snapshot("w", "before")) == "snapshot w@before: deleted"
    assert workspaces.snapshots("w") == []


def test_a_clone_is_a_workspace_of_its_own(workspaces: Any) -> None:
    workspaces.create("w", 3)

    clone = workspaces.clone("w", "copy")

    assert (clone.id, clone.size_gb) == ("copy", 3)
    assert str(workspaces.delete("w")) == "workspace w: deleted"
    assert [one.id for one in workspaces.list()] == ["copy"]


@pytest.mark.parametrize("kind", [str, Path])
def test_an_export_is_one_file_that_can_be_imported(
    workspaces: Any, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspaces.create("w", 3)

    path = workspaces.export("w", kind("file.qcow2"))
    back = workspaces.import_file(kind("file.qcow2"), "back")

    assert path == tmp_path / "file.qcow2"
    assert (back.id, back.size_gb, back.is_clean) == ("back", 3, False)
    with pytest.raises(InvalidInput, match="nothing is overwritten"):
        workspaces.export("w", path, compress=True)


@pytest.mark.parametrize("path", ["", "a\0b", 5, None, b"file"])
def test_what_is_no_path_is_refused(workspaces: Any, path: object) -> None:
    workspaces.create("w")
    verbs: tuple[Callable[[], object], ...] = (
        lambda: workspaces.export("w", path), lambda: workspaces.import_file(path, "v"),
    )  # fmt: skip
    for verb in verbs:
        with pytest.raises(InvalidInput, match="path"):
            verb()


def test_an_id_that_is_none_is_refused_by_every_verb(workspaces: Any, tmp_path: Path) -> None:
    bad = "../x"
    verbs: tuple[Callable[[], object], ...] = (
        lambda: workspaces.create(bad), lambda: workspaces.get(bad), lambda: workspaces.delete(bad),
        lambda: workspaces.resize(bad, 5), lambda: workspaces.snapshot(bad, "s"), lambda: workspaces.snapshots(bad),
        lambda: workspaces.rollback(bad, "s"), lambda: workspaces.remove_snapshot(bad, "s"),
        lambda: workspaces.clone(bad, "w"), lambda: workspaces.export(bad, tmp_path / "f"),
        lambda: workspaces.import_file(tmp_path / "f", bad),
    )  # fmt: skip
    for verb in verbs:
        with pytest.raises(InvalidInput, match=r"\.\./x"):
            verb()
    with pytest.raises(InvalidInput, match="base_workspace_id"):
        workspaces.create("w", base_workspace_id=bad)
    assert workspaces.list() == []


@pytest.mark.parametrize("size", [0, -1, 1.5, "5", True, 10**9])
def test_what_is_no_size_is_refused(workspaces: Any, size: object) -> None:
    with pytest.raises(InvalidInput, match="workspace_size_gb"):
        workspaces.create("w", size)


def test_one_that_is_not_there_and_one_that_is(workspaces: Any) -> None:
    workspaces.create("w")
    with pytest.raises(WorkspaceExists, match="w"):
        workspaces.create("w")
    with pytest.raises(WorkspaceNotFound, match="nobody"):
        workspaces.snapshots("nobody")
    with pytest.raises(WorkspaceNotFound, match="nobody"):
        workspaces.delete("nobody")
