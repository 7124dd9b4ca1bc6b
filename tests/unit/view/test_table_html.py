from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.api.workspace_info import WorkspaceInfo
from magpie_local.domain.sizes import GIB, MIB
from magpie_local.view.table_html import jobs_html, workspaces_html
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
