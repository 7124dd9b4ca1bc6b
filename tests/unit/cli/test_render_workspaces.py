from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo
from magpie_local.cli.render_workspaces import snapshots_table, workspace_details, workspaces_table
from magpie_local.cli.workspaces import in_gib
from magpie_local.domain.sizes import GIB, MIB

MOMENT = datetime(2025, 3, 1, 12, tzinfo=UTC)
JOB = "3f2a9c1e-0000-4000-8000-000000000001"
ONE = WorkspaceInfo(
    id="my-project", size_gb=20, used=300 * MIB, shared=0, created_at=MOMENT, used_at=None, last_job=None,
    in_use_by=None, waiting=0, base=None, is_clean=True, fsck=None, snapshots=0,
)  # fmt: skip


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_list_has_a_line_for_each() -> None:
    used = replace(ONE, id="busy", used_at=MOMENT, last_job=JOB, in_use_by=JOB, waiting=2, shared=100 * MIB)

    head, first, second = workspaces_table([ONE, used]).splitlines()

    assert head.split() == ["ID", "SIZE", "ON", "HOST", "USED", "SNAPSHOTS", "LAST", "JOB"]
    assert first.split() == ["my-project", "20.0", "GiB", "300.0", "MiB", "-", "0", "-"]
    assert second.endswith("3f2a9c1e  job 3f2a9c1e has it, 2 wait for it")
    assert "400.0 MiB" in second


def test_details_leave_out_what_is_not_known() -> None:
    text = workspace_details(ONE)

    assert "file system:  unmounted" in text
    assert not {"base", "last job:", "use:"} & {line.partition("  ")[0] for line in text.splitlines()}


@pytest.mark.parametrize(("is_clean", "fsck", "said"), [
    (False, None, "not unmounted; the next job checks it"), (True, 1, "unmounted (e2fsck said 1)"),
])  # fmt: skip
def test_details_tell_how_the_file_system_was_left(is_clean: bool, fsck: int | None, said: str) -> None:
    assert f"file system:  {said}\n" in workspace_details(replace(ONE, is_clean=is_clean, fsck=fsck))


def test_details_tell_what_is_shared_and_with_what_it_began() -> None:
    text = workspace_details(replace(ONE, shared=GIB, base="origin", last_job=JOB))

    assert "on host:      300.0 MiB, and 1.0 GiB shared" in text
    assert "began with:   origin" in text
    assert f"last job:     {JOB}" in text


def test_snapshots_are_listed_with_their_time() -> None:
    head, row = lines(snapshots_table([SnapshotInfo(workspace="w", name="old", size_gb=5, created_at=MOMENT)]))

    assert head == ["NAME", "SIZE", "CREATED"]
    assert row[:3] == ["old", "5.0", "GiB"]


@pytest.mark.parametrize(("size", "whole"), [(1, 1), (GIB, 1), (GIB + 1, 2), (5 * GIB, 5)])
def test_sizes_are_whole_gibibytes_rounded_up(size: int, whole: int) -> None:
    assert in_gib(size) == whole
