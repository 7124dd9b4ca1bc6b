"""The notebook's stop button while a cell's job runs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Cell, Notebook  # type: ignore[import-not-found]

    from magpie_local import Job

pytestmark = pytest.mark.timeout(240)

TRAPPED = "trap 'echo caught' INT; echo up; while true; do sleep 0.05; done"
STUBBORN = "trap '' INT TERM; echo up; while true; do sleep 0.05; done"


def newest(notebook: Notebook) -> Job:
    with notebook.place.client() as client:
        found: list[Job] = client.jobs.list(limit=1)
        return found[0]


def comes_idle(notebook: Notebook, cell: Cell) -> None:
    """Wait for the end of a cell; how long it takes is measured in benchmarks.notebook."""
    notebook.until(lambda: cell.is_idle, within=10)


def test_an_interrupt_is_sigint_to_the_script(notebook):
    cell = notebook.begin("%%magpie\ntrap 'echo mine; exit 4' INT; echo up; while true; do sleep 0.05; done")
    notebook.until(lambda: "up" in cell.text())

    notebook.interrupt()

    comes_idle(notebook, cell)
    assert cell.text() == "up\nmine\n"
    assert "exit code 4" in "".join(cell.error["traceback"])


def test_the_second_interrupt_stops_what_the_first_did_not(notebook):
    cell = notebook.begin(f"%%magpie\n{TRAPPED}")
    notebook.until(lambda: "up" in cell.text())
    notebook.interrupt()
    notebook.until(lambda: "caught" in cell.text() and "interrupt again" in cell.text("stderr"))
    assert not cell.is_idle

    notebook.interrupt()

    comes_idle(notebook, cell)
    assert "Traceback" not in "".join(cell.error["traceback"])
    assert newest(notebook).status == "stopped"


def test_the_third_interrupt_leaves_and_names_the_job(open_notebook):
    notebook = open_notebook(MAGPIE_STOP_GRACE="30s")
    cell = notebook.begin(f"%%magpie -o job\n{STUBBORN}")
    notebook.until(lambda: "up" in cell.text())
    for word in ("SIGINT", "SIGTERM"):
        notebook.interrupt()
        notebook.until(lambda word=word: word in cell.text("stderr"))

    notebook.interrupt()

    comes_idle(notebook, cell)
    assert cell.error["ename"] == "LeftRunning"
    assert newest(notebook).id in cell.error["evalue"]
    assert not newest(notebook).is_final
    assert notebook.value("1 + 1") == "2"


def test_interrupts_at_random_moments_leave_an_idle_kernel_and_no_job_behind(notebook):
    moments = random.Random(5)
    for _ in range(20):
        cell = notebook.begin("%%magpie\necho up; sleep 600", cell_id=None)
        notebook.listen(moments.uniform(0.0, 1.2))

        notebook.interrupt()

        comes_idle(notebook, cell)
        if cell.error is not None and cell.error["ename"] != "KeyboardInterrupt":  # which came before there was a job
            assert "Traceback" not in "".join(cell.error["traceback"])
    with notebook.place.client() as client:
        for job in client.jobs.list():
            assert client.jobs.wait(job.id, timeout=20).is_final
    assert notebook.ok("%%magpie\necho well").text() == "well\n"


@pytest.mark.parametrize(
    ("code", "errors"),
    [
        ("import time; print('up'); time.sleep(60)", {"KeyboardInterrupt"}),
        ("print('up'); await job", {"CancelledError", "KeyboardInterrupt"}),
        ("%magpie logs -f job", {None}),
    ],
    ids=["nothing of ours", "awaits it", "follows its log"],
)
def test_interrupting_another_cell_leaves_a_background_job_alone(notebook, code, errors):
    notebook.ok("%%magpie --bg -o job\necho up; sleep 600", cell_id="behind")
    cell = notebook.begin(code, cell_id="other")
    notebook.until(lambda: "up" in cell.text())

    notebook.interrupt()

    comes_idle(notebook, cell)
    assert (cell.error and cell.error["ename"]) in errors
    assert notebook.value("job.refresh().is_final") == "False"
