"""Cells in the VM of a persistent job, and the verbs that look after it: a real kernel, a real VM."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Notebook  # type: ignore[import-not-found]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

WAITS = "trap 'echo caught; exit 0' INT; id -un; while true; do sleep 0.1; done"
UNTIL_IT_HAS_GONE = "while pgrep -f 'sleep 98[7]' >/dev/null; do sleep 0.1; done; echo nothing left"


def test_a_vm_that_stays_is_attached_to_entered_interrupted_and_stopped(vm_notebook):
    notebook = vm_notebook
    behind = notebook.ok(f"%%magpie --bg --memory 256MB --persistent --name dev -o vm\n{WAITS}", cell_id="behind")
    notebook.until(lambda: "root" in behind.shown, within=90)

    assert_the_stop_button_reaches_a_script_that_is_attached_to(notebook)
    assert_cells_run_in_the_vm(notebook)
    assert_an_interrupt_ends_what_a_cell_runs_in_the_vm(notebook)
    assert_the_vm_ends_when_it_is_stopped(notebook)
    notebook.until(lambda: "stopped" in behind.shown)


def assert_the_stop_button_reaches_a_script_that_is_attached_to(notebook: Notebook) -> None:
    attached = notebook.begin("%magpie attach vm", cell_id="attach")
    notebook.until(lambda: "root" in attached.text())
    notebook.interrupt()
    notebook.until(lambda: attached.is_idle)

    assert attached.error is None
    assert attached.text() == "root\ncaught\n"
    assert notebook.ok("%magpie logs vm", cell_id="logs").text() == "root\ncaught\n"


def assert_cells_run_in_the_vm(notebook: Notebook) -> None:
    notebook.ok("n = 41", cell_id="prepare")
    by_variable = notebook.ok("%%magpie --vm vm -e n\nid -un; echo $((n + 1)); echo oops >&2")
    assert by_variable.text() == "magpie\n42\n"
    assert by_variable.text("stderr").startswith("oops\nexit code 0")

    # Printed by the cell itself: other threads' output would go astray, and each piece of it be a message.
    many = notebook.ok("%%magpie --vm vm\nfor n in $(seq 3000); do echo line $n ü; done")
    assert many.text().splitlines() == [f"line {n} ü" for n in range(1, 3001)]
    assert many.messages < 30

    short = notebook.value("vm.id[:8]")
    by_id = notebook.run(f"%%magpie --vm {short}\nexit 3")
    assert (by_id.error["ename"], by_id.error["evalue"][:11]) == ("JobFailed", "exit code 3")


def assert_an_interrupt_ends_what_a_cell_runs_in_the_vm(notebook: Notebook) -> None:
    cell = notebook.begin("%%magpie --vm vm\necho up; sleep 987; echo never")
    notebook.until(lambda: "up" in cell.text())
    began = time.monotonic()
    notebook.interrupt()
    notebook.until(lambda: cell.is_idle)

    assert time.monotonic() - began < 3
    assert cell.error["ename"] == "KeyboardInterrupt"
    assert "Traceback" not in "".join(cell.error["traceback"])
    assert notebook.ok(f"%%magpie --vm vm\n{UNTIL_IT_HAS_GONE}").text() == "nothing left\n"


def assert_the_vm_ends_when_it_is_stopped(notebook: Notebook) -> None:
    assert "dev" in notebook.ok("%magpie vms", cell_id="vms").shown
    assert notebook.ok("%magpie stop vm", cell_id="stop").text().endswith(": stopped\n")

    assert notebook.ok("%magpie vms", cell_id="vms").shown == "no jobs"
    assert notebook.run("%%magpie --vm vm\ntrue").error["ename"] == "VmUnreachable"
