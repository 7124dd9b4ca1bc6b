"""`jupyter nbconvert --execute`: nobody sits there, and the file is all that is left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CELLS = (
    "%load_ext magpie_local",
    "%%magpie --bg --name behind -o job\nsleep 0.5; echo '<b>all of it</b>'",
    "print(job.status, job.exit_code)",
    "job",
)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "source": code, "metadata": {}, "outputs": [], "execution_count": None}
        for n, code in enumerate(CELLS)
    ]
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def converted(place: Any, notebook: Path, to: str) -> str:
    """Return the file that nbconvert makes of a notebook which it runs."""
    process = place.start(
        "-m", "nbconvert", "--execute", "--to", to, "--output", "ran", str(notebook), PYTHONPATH=str(ROOT)
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return (notebook.parent / ("ran.html" if to == "html" else "ran.ipynb")).read_text()


def test_a_background_cell_is_waited_for_and_saved_as_it_ended(place: Any, notebook: Path) -> None:
    book = json.loads(converted(place, notebook, "notebook"))

    behind, facts, shown = [cell["outputs"] for cell in book["cells"][1:]]
    assert {"output_type": "stream", "name": "stdout", "text": ["<b>all of it</b>\n"]} in behind
    (status,) = [one["data"] for one in behind if one["output_type"] == "display_data"]
    assert "completed · exit code 0" in "".join(status["text/plain"])
    assert "completed · exit code 0" in "".join(status["text/html"])
    assert facts[0]["text"] == ["completed 0\n"]
    assert "&lt;b&gt;all of it&lt;/b&gt;" in "".join(shown[0]["data"]["text/html"])
    assert "widgets" not in book["metadata"]
    assert "widget-view" not in json.dumps(book["cells"])
    assert place.comes_to_rest()


def test_a_page_made_of_it_shows_the_same(place: Any, notebook: Path) -> None:
    page = converted(place, notebook, "html")

    assert "<b>all of it" not in page
    assert len(re.findall("&lt;b&gt;all of it", page)) == 3  # the script, its output, the job
    assert "completed · exit code 0" in page
