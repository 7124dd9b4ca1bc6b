from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo
from magpie_local.domain.sizes import GIB, MIB
from magpie_local.ports.shell import FileEntry
from magpie_local.view.table_html import files_html, jobs_html, snapshots_html, workspaces_html
from magpie_local.view.tables import Table, jobs_table, table_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job
    from tests.unit.view.conftest import Page

    MakeJob = Callable[..., Job]
    Read = Callable[[str], Page]

MOMENT = datetime(2025, 3, 1, 12, tzinfo=UTC)
ANY = st.text(st.characters(codec=None, exclude_categories=()))


def a_workspace(**fields: Any) -> WorkspaceInfo:
    usual: dict[str, Any] = {
        "id": "my-project", "size_gb": 20, "used": 300 * MIB, "shared": GIB, "created_at": MOMENT, "used_at": None,
        "last_job": None, "in_use_by": None, "waiting": 0, "base": None, "is_clean": True, "fsck": None, "snapshots": 0,
    }  # fmt: skip
    return WorkspaceInfo(**usual | fields)


def test_a_list_of_jobs_is_a_table_with_named_columns_and_rows(a_job: MakeJob, read: Read) -> None:
    waiting = a_job(status="pending", script_state="queued", waiting="4 vCPUs asked, 2 free", exit_code=None)
    page = read(jobs_html([a_job(), waiting]))

    assert [head["scope"] for head in page.of("th")] == ["col"] * 9 + ["row"] * 2
    assert "4 vCPUs asked, 2 free" in page.text
    assert page.text.endswith("2 jobs: 1 completed, 1 pending")
    assert page.of("div")[0]["aria-label"] == "2 jobs: 1 completed, 1 pending"


def test_states_in_a_list_have_their_signs(a_job: MakeJob, read: Read) -> None:
    page = read(jobs_html([a_job(), a_job(status="stopped", script_state="timed_out", exit_code=124)]))

    assert len(page.of("svg")) == 2
    assert "timed out" in page.text


def test_a_long_list_ends_and_says_how_to_see_the_rest(a_job: MakeJob, read: Read) -> None:
    page = read(jobs_html([a_job()] * 250))

    assert len(page.of("tr")) == 201
    assert "250 jobs: 250 completed; the first 200 are shown, the rest: magpie ps --all" in page.text


def test_empty_lists_say_so(read: Read) -> None:
    assert read(jobs_html([])).text == "no jobs"
    assert read(workspaces_html([])).text == "no workspaces"


def test_a_list_of_workspaces_tells_who_has_one(read: Read) -> None:
    text = read(workspaces_html([a_workspace(in_use_by="3f2a9c1e-0000", waiting=2)])).text

    assert "my-project" in text
    assert "1.3 GiB" in text
    assert "job 3f2a9c1e has it, 2 wait for it" in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY)
def test_names_stay_text(a_job: MakeJob, read: Read, text: str) -> None:
    page = read(jobs_html([a_job(name=f"<i>{text}", waiting=f"</td>{text}")]))

    assert "<i>" in page.text
    assert len(page.of("td")) == 8
    read(workspaces_html([a_workspace(id=text, last_job=text, in_use_by=text)]))


def test_the_terminal_shows_the_same_columns_in_capitals(a_job: MakeJob) -> None:
    data = jobs_table([a_job()])

    assert table_text(data).splitlines()[0].split() == [name.upper() for name in data.head if name]


def test_a_terminals_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table_text(Table(("A", "b"), (("long cell", "x"), ("y", "")))) == "A          B\nlong cell  x\ny"


def a_file(name: str, kind: Any = "file", **fields: Any) -> FileEntry:
    return FileEntry(name=name, kind=kind, mode=0o644, **{"size": 3 * MIB, "modified": MOMENT.timestamp()} | fields)


def test_a_folder_is_a_table_with_folders_first(read: Read) -> None:
    page = read(files_html([a_file("a.txt"), a_file("data", "folder"), a_file("zoo", "link")], "/workspace"))

    assert page.text.index("data/") < page.text.index("a.txt") < page.text.index("zoo")
    assert page.text.endswith("3 entries in /workspace")
    assert page.text.count("3.0 MiB") == 1
    assert read(files_html([], "/workspace")).text == "no entries in /workspace"


@given(name=ANY, modified=st.floats() | st.integers(-(10**20), 10**20).map(float))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_vm_may_call_its_files_anything(read: Read, name: str, modified: float) -> None:
    read(files_html([a_file(name, modified=modified)], name))


def test_snapshots_are_a_table(read: Read) -> None:
    kept = SnapshotInfo(workspace="my-project", name="before", size_gb=20, created_at=MOMENT)

    assert "before" in read(snapshots_html([kept])).text
    assert read(snapshots_html([kept])).text.endswith("1 snapshot")
    assert read(snapshots_html([])).text == "no snapshots"
