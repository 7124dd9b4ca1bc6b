"""Widgets in a real kernel, clicked and typed into as a front end does it: by comm messages."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Cell, Notebook  # type: ignore[import-not-found]

pytestmark = pytest.mark.timeout(180)

VIEW = "application/vnd.jupyter.widget-view+json"
GATE = "until [ -e {gate} ]; do sleep 0.02; done"


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


@pytest.fixture
def watched(notebook):
    """Start a job behind its cell, and return the cell once its output is there."""

    def start(script: str, options: str = "", seen: str = "begun"):
        cell = notebook.ok(f"%%magpie --bg -o job {options}\n{script}", cell_id="watched")
        notebook.until(lambda: seen in cell.shown)
        return cell

    return start


def part(notebook: Notebook, cell: Cell, **wanted: str) -> str:
    return str(notebook.widgets.find(cell.widget, **wanted))


def bundle(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = cell.displays.values()
    return found


def test_loading_imports_no_widgets_and_showing_one_does(notebook, watched):
    loaded = "'ipywidgets' in __import__('sys').modules"
    assert notebook.value(loaded) == "False"

    watched("echo begun; sleep 600")

    assert notebook.value(loaded) == "True"


def test_a_job_behind_its_cell_is_a_widget_and_leaves_html(notebook, watched, gate):
    cell = watched(f"echo begun; {GATE.format(gate=gate)}; echo '<b>end</b>'", "--name '<i>n</i>'")

    assert {VIEW, "text/html", "text/plain"} == bundle(cell).keys()
    assert "magpie-job" in notebook.widgets.states[cell.widget]["_dom_classes"]
    for wanted in ({"description": "Stop"}, {"placeholder": "Search the log"}, {"description": "Follow"}):
        assert notebook.widgets.states[part(notebook, cell, **wanted)]["tooltip"]
    notebook.until(lambda: "CPU" in cell.shown and "memory" in cell.shown and "running" in cell.shown)
    assert "&lt;i&gt;n&lt;/i&gt;" in cell.shown
    gate.touch()
    notebook.until(lambda: not cell.widget)

    assert bundle(cell).keys() == {"text/html", "text/plain"}
    assert re.match(r"✓ job [0-9a-f]{8} completed · exit code 0", bundle(cell)["text/plain"])
    assert "&lt;b&gt;end&lt;/b&gt;" in bundle(cell)["text/html"]
    notebook.until(lambda: not notebook.widgets.states)


def test_a_widget_in_a_page_that_was_loaded_again_shows_the_end_itself(notebook, watched, gate):
    cell = watched(f"echo begun; {GATE.format(gate=gate)}; echo ended")
    widget = cell.widget

    notebook.load_again(widget)
    notebook.value("1")
    gate.touch()
    notebook.until(lambda: "ended" in notebook.widgets.html(widget) and "completed" in notebook.widgets.html(widget))

    notebook.until(lambda: len(list(notebook.widgets.within(widget))) == 2)


def test_the_log_can_be_searched_and_held_still(notebook, watched, gate):
    cell = watched(f"echo Alpha; echo 'beta <b>'; echo begun; {GATE.format(gate=gate)}; echo more; sleep 600")
    search, follow = part(notebook, cell, placeholder="Search the log"), part(notebook, cell, description="Follow")

    notebook.enter(search, value="ALPHA")
    notebook.until(lambda: "1 of 3 lines contain" in cell.shown)
    assert "Alpha" in cell.shown
    assert "begun" not in cell.shown
    notebook.enter(search, value="<b>")
    notebook.until(lambda: "contain “&lt;b&gt;”" in cell.shown)
    assert "beta &lt;b&gt;" in cell.shown
    notebook.enter(search, value="")
    notebook.until(lambda: "Alpha" in cell.shown and "begun" in cell.shown)

    notebook.enter(follow, value=False)
    notebook.until(lambda: "standing still: 0 new lines" in cell.shown)
    gate.touch()
    notebook.until(lambda: "standing still: 1 new lines" in cell.shown)
    assert "more" not in cell.shown
    notebook.enter(follow, value=True)
    notebook.until(lambda: "more" in cell.shown)
    assert "standing still" not in cell.shown


def test_the_full_log_opens_and_closes(notebook, watched):
    notebook.ok("%config MagpieMagics.tail_lines = 3", cell_id="config")
    cell = watched("for i in $(seq 9); do echo line-$i; done; echo begun; sleep 600")
    assert "line-1\n" not in cell.shown
    assert "the last 3 of 10 lines" in cell.shown

    notebook.click(part(notebook, cell, description="Open full log"))
    notebook.until(lambda: "line-1\n" in cell.shown and "10 of 10 lines" in cell.shown)
    notebook.click(part(notebook, cell, description="Close full log"))
    notebook.until(lambda: "the last 3 of 10 lines" in cell.shown)

    assert "line-1\n" not in cell.shown


def test_stop_asks_once_more_and_stops(notebook, watched):
    cell = watched("echo begun; sleep 600")
    button = part(notebook, cell, description="Stop")

    notebook.click(button)
    notebook.until(lambda: notebook.widgets.states[button]["description"] == "Stop: sure?")
    assert notebook.value("job.refresh().status") == "running"
    notebook.click(button)
    notebook.until(lambda: not cell.widget)

    assert bundle(cell)["text/plain"].startswith("■ job")
    assert notebook.value("job.refresh().status") == "stopped"


def test_stop_does_not_ask_where_that_is_not_wished(notebook, watched):
    notebook.ok("%config MagpieMagics.confirm_stop = False", cell_id="config")
    cell = watched("echo begun; sleep 600")

    notebook.click(part(notebook, cell, description="Stop"))
    notebook.until(lambda: not cell.widget)

    assert notebook.value("job.refresh().status") == "stopped"


def test_a_cell_that_blocks_the_kernel_is_told_beside_stop(notebook, watched, gate):
    notebook.ok("%config MagpieMagics.confirm_stop = False", cell_id="config")
    cell = watched("echo begun; sleep 600")
    assert "interrupt" not in cell.shown

    busy = notebook.begin(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)", cell_id="busy")
    notebook.until(lambda: "the notebook&#x27;s own interrupt" in cell.shown)
    notebook.click(part(notebook, cell, description="Stop"))
    notebook.listen(1.5)
    assert "running" in cell.shown
    gate.touch()

    notebook.until(lambda: busy.is_idle and not cell.widget)
    assert bundle(cell)["text/plain"].startswith("■ job")


def test_the_word_about_a_blocked_kernel_goes_when_it_hears_again(notebook, watched, gate):
    cell = watched("echo begun; sleep 600")
    notebook.begin(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)", cell_id="busy")
    notebook.until(lambda: "own interrupt" in cell.shown)

    gate.touch()

    notebook.until(lambda: "own interrupt" not in cell.shown)


def test_a_cell_that_awaits_leaves_stop_alone(notebook, watched):
    notebook.ok("%config MagpieMagics.confirm_stop = False", cell_id="config")
    cell = watched("echo begun; sleep 600")

    waiting = notebook.begin("print((await job).status)", cell_id="waiting")
    for _ in range(3):
        was = cell.shown
        notebook.until(lambda was=was: cell.shown != was)  # its time goes on, once a second
        assert "interrupt" not in cell.shown
    notebook.click(part(notebook, cell, description="Stop"))

    notebook.until(lambda: waiting.is_idle and not cell.widget)
    assert waiting.text() == "stopped\n"


def test_a_job_that_a_cell_returns_is_a_widget_while_it_runs(notebook, watched, gate):
    watched(f"echo begun; {GATE.format(gate=gate)}; echo ended")

    again = notebook.ok("job", cell_id="again")
    notebook.until(lambda: "begun" in again.shown)
    assert {VIEW, "text/html", "text/plain"} == bundle(again).keys()
    assert notebook.value("sorted(job._repr_mimebundle_())") == str(sorted({VIEW, "text/html", "text/plain"}))
    gate.touch()
    notebook.until(lambda: not again.widget)

    assert "ended" in bundle(again)["text/plain"]
    assert notebook.value("sorted(job._repr_mimebundle_())") == "['text/html', 'text/plain']"
    notebook.ok("%unload_ext magpie_local", cell_id="load")
    assert "ended" in notebook.ok("job", cell_id="last").displays["result"]["text/html"]


def test_the_jobs_are_a_table_with_states_of_now(notebook, watched):
    notebook.ok("%config MagpieMagics.confirm_stop = False", cell_id="config")
    watched("echo begun; sleep 600", "--name first")
    watched("echo begun; sleep 600", "--again --name second")

    table = notebook.ok("from magpie_local import Magpie\nclient = Magpie()\nclient.jobs", cell_id="table")
    assert {VIEW, "text/html", "text/plain"} == bundle(table).keys()
    assert "2 jobs: 2 running" in table.shown
    choice = part(notebook, table, description="Job")
    assert [label.split()[1] for label in notebook.widgets.states[choice]["_options_labels"]] == ["second", "first"]
    assert notebook.widgets.states[choice]["index"] == 0
    notebook.enter(choice, index=1)
    notebook.click(part(notebook, table, description="Stop"))
    notebook.until(lambda: "1 running" in table.shown and "1 stopped" in table.shown)
    notebook.ok("job.stop()", cell_id="stop")
    notebook.until(lambda: not table.widget)

    assert "2 stopped" in bundle(table)["text/html"]
    assert "second" in bundle(table)["text/plain"]
    assert VIEW not in notebook.ok("client.jobs", cell_id="table").displays["result"]


def test_the_workspaces_can_be_looked_into(notebook):
    notebook.ok(
        "from magpie_local import Magpie\nclient = Magpie()\n"
        "client.workspaces.create('my-disk'); client.workspaces.create('other')\n"
        "client.workspaces.snapshot('my-disk', 'before')",
        cell_id="prepare",
    )

    cell = notebook.ok("client.workspaces", cell_id="browse")
    assert "my-disk" in bundle(cell)["text/plain"]
    choice = part(notebook, cell, description="Workspace")
    index = notebook.widgets.states[choice]["_options_labels"].index("my-disk")
    notebook.until(lambda: "snapshot" in cell.shown)  # of the first: it is chosen from the start
    notebook.enter(choice, index=index)
    notebook.until(lambda: "before" in cell.shown and "1 snapshot" in cell.shown)
    assert "--persistent --workspace my-disk" in cell.shown
    notebook.click(part(notebook, cell, description="Close"))
    notebook.until(lambda: not cell.widget)

    assert "my-disk" in bundle(cell)["text/html"]
    notebook.until(lambda: not notebook.widgets.states)


def test_a_persistent_job_is_a_widget_with_its_shell_until_its_vm_is_gone(notebook, watched, gate):
    notebook.ok("%config MagpieMagics.confirm_stop = False", cell_id="config")
    cell = watched(f"echo begun; {GATE.format(gate=gate)}", "--persistent")
    notebook.until(lambda: "<code>ssh " in cell.shown)

    gate.touch()
    notebook.until(lambda: "exit code 0" in cell.shown)
    assert "<code>ssh " in cell.shown
    assert "shell: <code>ssh " in notebook.value("job._repr_mimebundle_()['text/html']")
    notebook.click(part(notebook, cell, description="Stop"))
    notebook.until(lambda: not cell.widget)

    assert "stopped · exit code 0" in bundle(cell)["text/plain"]
    assert "ssh" not in bundle(cell)["text/html"]


def test_the_vm_that_a_failed_script_leaves_behind_is_told(notebook, watched, gate):
    cell = watched(f"echo begun; {GATE.format(gate=gate)}; exit 7", "--persistent")

    gate.touch()
    notebook.until(lambda: not cell.widget)

    assert "exit code 7" in bundle(cell)["text/plain"]
    assert "Its VM goes on: `%magpie stop" in bundle(cell)["text/plain"]
    assert "<code>ssh " in bundle(cell)["text/html"]


def test_without_widgets_the_display_is_live_html(open_notebook, gate):
    notebook = open_notebook(MAGPIE_WIDGETS="0")
    cell = notebook.ok(f"%%magpie --bg -o job\necho begun; {GATE.format(gate=gate)}", cell_id="watched")
    notebook.until(lambda: "begun" in cell.shown)

    assert bundle(cell).keys() == {"text/html", "text/plain"}
    assert VIEW not in notebook.ok("job", cell_id="again").displays["result"]
    gate.touch()
    notebook.until(lambda: "completed" in cell.shown)
    assert notebook.widgets.states == {}


def test_much_output_makes_at_most_ten_updates_a_second(notebook, watched):
    cell = watched("echo begun; for i in $(seq 300); do echo line $i; sleep 0.01; done; sleep 600")
    parts, began = list(notebook.widgets.within(cell.widget)), time.monotonic()
    before = dict(notebook.widgets.writes)

    notebook.until(lambda: "line 300" in cell.shown)

    writes = [notebook.widgets.writes.get(one, 0) - before.get(one, 0) for one in parts]
    assert 3 < max(writes) <= 10 * (time.monotonic() - began) + 2
