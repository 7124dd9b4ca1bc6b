"""The browser of workspaces on a real VM: what is in one, seen through the job that has it."""

from __future__ import annotations

import os
import signal

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]


@pytest.fixture
def real(open_notebook, image_folder, qemus):
    notebook = open_notebook(MAGPIE_HYPERVISOR="libvirt", MAGPIE_CPUS="2", MAGPIE_IMAGES=str(image_folder))
    yield notebook
    for pid in qemus(notebook.place.home):
        os.kill(pid, signal.SIGKILL)


def test_the_files_of_a_workspace_are_listed_through_the_vm_that_has_it(real):
    script = "mkdir -p /workspace/data && echo hello > /workspace/notes.txt && touch /workspace/data/inner"
    started = real.ok(f"%%magpie --persistent --memory 256MB -w disk -o job\n{script}")
    assert "exit code 0" in started.shown

    cell = real.ok("from magpie_local import Magpie\nclient = Magpie()\nclient.workspaces", cell_id="browse")
    real.until(lambda: "notes.txt" in cell.shown, within=60)
    assert "data/" in cell.shown
    real.enter(real.widgets.find(cell.widget, placeholder="Folder"), value="/workspace/data")
    real.until(lambda: "inner" in cell.shown)

    assert "notes.txt" not in cell.shown
    assert real.ok("job.stop()", cell_id="stop").error is None
