"""Check notebooks that are kept without outputs: scripts/check_notebooks.py FILE...

Names what is wrong, a line each, and exits with 1 if there is anything.
"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Tags that a runner of notebooks understands.
_TAGS = {"raises-exception"}
#: Paths that only their author's machine has: below homes, of drives, of files in a browser.
_MACHINE_PATH = re.compile(r"(?:/home|/Users|/root|/work|/opt)/[\w.]+|\b[A-Z]:\\\w|file://")


def faults(path: Path) -> list[str]:
    """Return what is wrong with a notebook, in sentences; nothing for one that may be kept."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nbformat mends missing ids and warns; here they are to be mended by hand
            book = nbformat.reads(path.read_text(encoding="utf-8"), as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
            nbformat.validate(book)
    except (OSError, ValueError, Warning, nbformat.ValidationError) as error:
        return [f"it is no valid notebook: {str(error).splitlines()[0]}"]
    return [*_of_book(book), *(f"cell {cell.id}: {fault}" for cell in book.cells for fault in _of_cell(cell))]


def _of_book(book: Any) -> Iterator[str]:
    if (book.nbformat, book.nbformat_minor) < (4, 5):
        yield f"its format is {book.nbformat}.{book.nbformat_minor}; cells have ids from 4.5 on"
    kernel = book.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"its kernel is {kernel!r}, not 'python3'"
    if "widgets" in book.metadata:
        yield "it holds the state of widgets"
    if not book.cells or book.cells[0].cell_type != "markdown" or not book.cells[0].source.startswith("# "):
        yield "it does not begin with a title"


def _of_cell(cell: Any) -> Iterator[str]:
    if not cell.source.strip():
        yield "it is empty"
    if found := _MACHINE_PATH.search(cell.source):
        yield f"it names a path of one machine, {found.group()!r}"
    if unknown := set(cell.metadata.get("tags", ())) - _TAGS:
        yield f"nothing knows its tags {sorted(unknown)}"
    if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
        yield "it was saved with its outputs; clear them"


def main(names: list[str]) -> int:
    """Check files, and return the exit code."""
    found = [f"{name}: {fault}" for name in names for fault in faults(Path(name))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
