"""Arrays and frames there and back, to a real VM with NumPy and pandas."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from magpie_local.images.builder import build

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

PREPARE = """
import numpy as np, pandas as pd
array = np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4))
frame = pd.DataFrame({
    "when": pd.date_range("2026-03-28", periods=3, tz="Europe/Berlin"),
    "text": ["a", None, "ü"],
    "kind": pd.Categorical(["x", "y", "x"]),
    "count": pd.array([1, None, 3], dtype="Int64"),
    "value": [0.5, np.nan, np.inf],
}, index=pd.Index(["one", "two", "three"], name="key"))
"""
BODY = """
import numpy, pandas
doubled = array * 2
same = frame
sums = frame.groupby("kind", observed=True)["count"].sum()
there = {"pandas": pandas.__version__, "numpy": numpy.__version__, "zone": str(frame["when"].dt.tz)}
"""
#: The image's pandas has nanoseconds alone.
EQUAL = """
same["when"] = same["when"].dt.as_unit(frame["when"].dt.unit)
pd.testing.assert_frame_equal(same, frame)
assert (doubled == array * 2).all() and doubled.dtype.kind == "f"
assert sums.to_dict() == {"x": 4, "y": 0} and str(sums.dtype) == "Int64"
"""


@pytest.fixture(scope="module")
def science_folder(image_folder: Path) -> Path:
    """The folder with the science image as well."""
    asyncio.run(build("science", image_folder))
    return image_folder


def test_arrays_and_frames_go_to_a_vm_and_come_back(open_notebook, vm_home, science_folder):
    notebook = open_notebook(
        MAGPIE_HYPERVISOR="libvirt", MAGPIE_HOME=str(vm_home), MAGPIE_IMAGES=str(science_folder), MAGPIE_KEEPER="false"
    )

    def ok(code: str, cell_id: str) -> str:
        """Run a cell that may wait for a VM; returns what it printed."""
        cell = notebook.begin(code, cell_id)
        notebook.until(lambda: cell.is_idle, 200.0)
        assert (cell.error, "UsageError" in cell.text("stderr")) == (None, False), cell
        return str(cell.text())

    ok(PREPARE, "prepare")
    values = "--python --in array --in frame --out doubled --out same --out sums --out there"
    # A job, whose VM stays; then a second cell in that VM, as another user.
    ok(f"%%magpie --image science --memory 256 --persistent -o job {values}\n{BODY}", "job")
    ok(EQUAL, "equal")
    vm = notebook.value("job.id")
    ok("del doubled, same, sums", "forget")
    ok(f"%%magpie --vm {vm} {values}\n{BODY}", "vm")
    ok(EQUAL, "equal")

    assert ok(f"%%magpie --vm {vm} --out lines\nls -A | tee $MAGPIE_OUT/lines.txt", "list").count(".magpie-cell-") == 1
    assert ok(f"%%magpie --vm {vm}\nls -A", "list").count(".magpie-cell-") == 0
    assert "pandas" in notebook.value("there")
    ok("job.stop()", "stop")
