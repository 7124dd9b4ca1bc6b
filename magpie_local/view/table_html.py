"""Lists of jobs and workspaces as HTML."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import format_count
from magpie_local.view.job_html import state_html
from magpie_local.view.plain import one_line
from magpie_local.view.style import LIST_STYLE, framed
from magpie_local.view.tables import Table, files_table, jobs_table, snapshots_table, workspaces_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.api.models import Job
    from magpie_local.api.workspace_info import SnapshotInfo, WorkspaceInfo
    from magpie_local.view.tables import Entry

#: Rows shown of a list; the command line shows the rest.
MOST = 200
_CELL = 120
_STATUS = 2


def jobs_html(jobs: Sequence[Job]) -> str:
    """Return a table of jobs, at most 200 of them, in the order given."""
    counts = Counter(job.status for job in jobs)
    by_status = ", ".join(f"{n:,} {word}" for word, n in counts.items())
    label = f"{format_count(len(jobs), 'job')}: {by_status}" if jobs else "no jobs"
    states = [state_html(job) for job in jobs[:MOST]]
    table = _table_html(jobs_table(jobs[:MOST]), {_STATUS: states})
    return framed(LIST_STYLE, table + _foot(label, len(jobs), "magpie ps --all"), escape(label))


def workspaces_html(workspaces: Sequence[WorkspaceInfo]) -> str:
    """Return a table of workspaces, at most 200 of them, in the order given."""
    label = "no workspaces" if not workspaces else format_count(len(workspaces), "workspace")
    table = _table_html(workspaces_table(workspaces[:MOST]), {})
    return framed(LIST_STYLE, table + _foot(label, len(workspaces), "magpie workspaces list"), escape(label))


def snapshots_html(snapshots: Sequence[SnapshotInfo]) -> str:
    """Return a table of a workspace's snapshots, at most 200 of them."""
    label = f"{len(snapshots) or 'no'} snapshot{'' if len(snapshots) == 1 else 's'}"
    table = _table_html(snapshots_table(snapshots[:MOST]), {})
    return framed(LIST_STYLE, table + _foot(label, len(snapshots), "magpie workspaces snapshots"), escape(label))


def files_html(entries: Sequence[Entry], folder: str) -> str:
    """Return what is in a folder of a VM as a table, at most 200 entries."""
    label = f"{len(entries) or 'no'} entr{'y' if len(entries) == 1 else 'ies'} in {one_line(folder, _CELL)}"
    table = files_table(entries)
    shown = Table(table.head, table.rows[:MOST], table.quantities)
    return framed(LIST_STYLE, _table_html(shown, {}) + _foot(label, len(entries), "magpie ssh"), escape(label))


def _table_html(table: Table, drawn: dict[int, list[str]]) -> str:
    """Return a table; `drawn` has columns that are HTML already, by number."""
    if not table.rows:
        return ""
    head = "".join(
        f"<th scope='col'{_class(table, number)}>{escape(name)}</th>" for number, name in enumerate(table.head)
    )
    rows = "".join(_row(table, number, row, drawn) for number, row in enumerate(table.rows))
    return f"<div class='mw'><table class='mb'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"


def _row(table: Table, number: int, row: Sequence[str], drawn: dict[int, list[str]]) -> str:
    first, *others = row
    cells = [f"<th scope='row'><code>{_safe(first)}</code></th>"]
    for column, cell in enumerate(others, start=1):
        shown = drawn[column][number] if column in drawn else _safe(cell)
        cells.append(f"<td{_class(table, column)}>{shown}</td>")
    return f"<tr>{''.join(cells)}</tr>\n"


def _class(table: Table, column: int) -> str:
    return " class='q'" if column in table.quantities else ""


def _foot(label: str, count: int, command: str) -> str:
    more = f"; the first {MOST} are shown, the rest: <code>{command}</code>" if count > MOST else ""
    return f"<div class='mf'><span>{escape(label)}{more}</span></div>"


def _safe(text: str) -> str:
    return f"<bdi>{escape(one_line(text, _CELL))}</bdi>" if text else ""
