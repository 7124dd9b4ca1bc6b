"""The script that checks the notebooks in examples/."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check_notebooks.py"
faults: Callable[[Path], list[str]] = runpy.run_path(str(SCRIPT))["faults"]


def a_book() -> dict[str, Any]:
    code: dict[str, Any] = {
        "cell_type": "code", "id": "two", "metadata": {}, "source": "1", "outputs": [], "execution_count": None,
    }  # fmt: skip
    return {
        "cells": [{"cell_type": "markdown", "id": "one", "metadata": {}, "source": "# Title"}, code],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def saved(folder: Path, book: object) -> Path:
    path = folder / "book.ipynb"
    path.write_text(json.dumps(book))
    return path


def test_a_good_notebook_has_no_faults(tmp_path: Path) -> None:
    assert faults(saved(tmp_path, a_book())) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda book: book["cells"][1].update(source=" "), "cell two: it is empty"),
        (lambda book: book["cells"][1].update(source="open('/home/ada/x')"), "'/home/ada'"),
        (lambda book: book["cells"][0].update(source="# T\n C:\\data"), "path of one machine"),
        (lambda book: book["cells"][1].update(execution_count=3), "saved with its outputs"),
        (
            lambda book: book["cells"][1]["outputs"].append({"output_type": "stream", "name": "stdout", "text": "x"}),
            "saved with its outputs",
        ),
        (lambda book: book["cells"][1]["metadata"].update(tags=["raises-exeption"]), "['raises-exeption']"),
        (lambda book: book["cells"].pop(0), "title"),
        (lambda book: book["metadata"].pop("kernelspec"), "its kernel is None"),
        (lambda book: book["metadata"]["kernelspec"].update(name="venv"), "its kernel is 'venv'"),
        (lambda book: book["metadata"].update(widgets={}), "state of widgets"),
        (lambda book: book["cells"][1].pop("outputs"), "no valid notebook"),
        (lambda book: book["cells"][1].pop("id"), "no valid notebook"),
        (lambda book: book["cells"][1].update(id="one"), "no valid notebook"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str) -> None:
    book = a_book()
    change(book)

    (fault,) = faults(saved(tmp_path, book))
    assert told in fault


def test_what_is_no_notebook_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "torn.ipynb").write_text('{"cells": [')

    assert "no valid notebook" in faults(tmp_path / "torn.ipynb")[0]
    assert "no valid notebook" in faults(tmp_path / "missing.ipynb")[0]


def test_the_script_names_the_file_and_fails(tmp_path: Path) -> None:
    good, bad = saved(tmp_path, a_book()), tmp_path / "bad.ipynb"
    bad.write_text("{}")

    ended = subprocess.run([sys.executable, SCRIPT, good, bad], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert [line.partition(": ")[0] for line in ended.stdout.splitlines()] == [str(bad)]


def test_the_examples_are_good() -> None:
    found = {path.name: faults(path) for path in (ROOT / "examples").glob("*.ipynb")}

    assert found
    assert {name: told for name, told in found.items() if told} == {}
