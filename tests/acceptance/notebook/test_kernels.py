"""Kernels that restart, die, or share a state directory: no job is lost with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.timeout(240)


def test_a_restarted_kernel_finds_its_jobs_again(notebook, tmp_path):
    for number in range(10):
        gate = tmp_path / f"gate{number}"
        script = f"echo begun {number}; until [ -e {gate} ]; do sleep 0.02; done; echo ended {number}"
        behind = notebook.ok(f"%%magpie --bg -o job\n{script}", cell_id=f"cell-{number}")
        notebook.until(lambda behind=behind, number=number: f"begun {number}" in behind.shown)
        identity = notebook.value("job.id")

        notebook.restart()

        again = notebook.run(f"%%magpie --bg\n{script}", cell_id=f"cell-{number}")
        assert f"job {identity[:8]} still runs" in again.text("stderr")
        cell = notebook.begin(f"%magpie attach {identity[:8]}", cell_id="attach")
        notebook.until(lambda cell=cell: "begun" in cell.text())
        gate.touch()
        notebook.until(lambda cell=cell: cell.is_idle)
        assert cell.error is None
        assert cell.text() == f"begun {number}\nended {number}\n"


def test_a_job_outlives_its_killed_kernel_and_another_attaches(open_notebook, tmp_path):
    gate = tmp_path / "gate"
    first = open_notebook()
    cell = first.begin(f"%%magpie\necho begun; until [ -e {gate} ]; do sleep 0.02; done; echo ended")
    first.until(lambda: "begun" in cell.text())
    with first.place.client() as client:
        (job,) = client.jobs.list()

    first.kill()
    second = open_notebook()

    shown = second.begin(f"%magpie attach {job.id[:8]}")
    second.until(lambda: "begun" in shown.text())
    gate.touch()
    second.until(lambda: shown.is_idle)
    assert shown.text() == "begun\nended\n"
    assert "completed" in shown.shown


def test_a_kernel_that_ends_hands_its_jobs_to_a_keeper(open_notebook, tmp_path, eventually):
    gate = tmp_path / "gate"
    notebook = open_notebook()
    notebook.ok(f"%%magpie --bg -o job\nuntil [ -e {gate} ]; do sleep 0.02; done; echo ended")
    notebook.until(lambda: notebook.value("job.refresh().status") == "running")
    identity = notebook.value("job.id")

    notebook.client.stop_channels()
    notebook.manager.shutdown_kernel(now=False)

    assert eventually(notebook.place.keepers)
    gate.touch()
    assert notebook.place.ended(identity).status == "completed"


def test_two_notebooks_share_a_state_directory(open_notebook):
    one, two = open_notebook(JPY_SESSION_NAME="one.ipynb"), open_notebook(JPY_SESSION_NAME="two.ipynb")
    first = one.begin("%%magpie --name from-one\necho up; sleep 600")
    one.until(lambda: "up" in first.text())

    assert two.ok("%%magpie\necho from two").text() == "from two\n"
    assert "from-one" in two.ok("%magpie ps", cell_id="ps").shown
    two.ok("%%magpie --bg -o job --name from-two\necho begun; sleep 600")
    two.until(lambda: two.value("job.refresh().status") == "running")

    # Whoever of the two leads: an interrupt reaches the job of either.
    two.ok("job.interrupt()", cell_id="interrupt")
    assert two.value("job.wait(20).exit_code") == "130"
    one.interrupt()
    one.until(lambda: first.is_idle, within=2)
    assert "130" in first.error["evalue"]


def test_a_notebook_that_nobody_watches_runs_to_its_end_and_keeps_the_results(make_place, tmp_path, monkeypatch):
    place = make_place()
    cells = ["%load_ext magpie_local", "%%magpie\necho hello", "%%magpie --bg -o job\necho behind", "job.status"]
    book = nbformat.reads(json.dumps(_book(cells)), as_version=4)  # type: ignore[no-untyped-call]
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)

    NotebookClient(book, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()

    texts = [str(cell["outputs"]) for cell in book.cells]
    assert "hello" in texts[1]
    assert "behind" in texts[2]
    assert "completed" in texts[2]
    assert "'completed'" in texts[3]
    assert not any("ipywidgets" in text or "widget-view" in text for text in texts)


def _book(cells: Sequence[str]) -> dict[str, Any]:
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"cell-{n}", "source": code, "metadata": {}, "outputs": [], "execution_count": None}
        for n, code in enumerate(cells)
    ]
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
