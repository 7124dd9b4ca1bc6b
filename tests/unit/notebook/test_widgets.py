"""What can be said of the widgets without a kernel."""

from __future__ import annotations

import ast
from pathlib import Path

import notebook_ext


def test_one_file_imports_ipywidgets() -> None:
    folder = Path(notebook_ext.__file__).parent

    found = [path.relative_to(folder) for path in sorted(folder.rglob("*.py")) if "ipywidgets" in _imported(path)]

    assert found == [Path("widgets/controls.py")]


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    whole = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in plain | whole}
