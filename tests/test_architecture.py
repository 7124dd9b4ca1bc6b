"""Rules of form that no linter has: sizes, layers, and what the package must not do."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "magpie_local"
NOTEBOOK = ROOT / "notebook_ext"
MODULES = sorted([*PACKAGE.rglob("*.py"), *NOTEBOOK.rglob("*.py")])
#: Where our own code is, tests included; the seed's examples are not ours.
OURS = [
    path
    for folder in (PACKAGE, NOTEBOOK, ROOT / "tests", ROOT / "benchmarks", ROOT / "scripts")
    for path in sorted(folder.rglob("*.py"))
    if not {"seed_000", "seed_002"} & set(path.parts)
]

MANY_LINES, MOST_LINES = 400, 600
#: How many modules may have many lines.
MAX_LARGE = 1
MAX_FUNCTION, MAX_P90 = 80, 25
MAX_METHODS = 8

SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "asyncio.create_subprocess_shell", "eval", "exec"}

#: Runs in the guest, where to run what it is sent is its purpose.
GUESTS = {"notebook_ext/carry/guest.py"}

#: Library -> the one package that may import it.
HOMES = {
    "libvirt": "hypervisor",
    "libvirt_qemu": "hypervisor",
    "aiosqlite": "store",
    "sqlite3": "store",
    "asyncssh": "guest",
    "cryptography": "guest",
    "click": "cli",
    "IPython": "notebook_ext",
    "numpy": "notebook_ext",
    "pandas": "notebook_ext",
    "traitlets": "notebook_ext",
    "ipywidgets": "notebook_ext",
    "platformdirs": "config",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of the body, docstring and signature not counted."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")


def is_explained(handler: ast.ExceptHandler, path: Path) -> bool:
    """Return whether the error is raised again after a clean-up, or a comment stands by."""
    last = handler.body[-1]
    cleans_up = isinstance(last, ast.Raise) and last.exc is None
    lines = path.read_text().splitlines()[handler.lineno - 2 : handler.end_lineno]
    return cleans_up or any("#" in line for line in lines)


def package_of(path: Path) -> str:
    """Return the first part of a module's name below magpie_local: `store`, `config`, `cli`; or `notebook_ext`."""
    if path.is_relative_to(NOTEBOOK):
        return NOTEBOOK.name
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_a_file_fits_into_a_head():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in OURS}

    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    large = [name_of(path) for path in MODULES if lines[name_of(path)] > MANY_LINES]
    assert len(large) <= MAX_LARGE, large


def test_a_function_fits_onto_a_screen():
    assert [
        f"{name_of(path)} {function.name}"
        for path in MODULES
        for function in functions(path)
        if length(function) > MAX_FUNCTION
    ] == []


def test_nine_functions_of_ten_are_short():
    lengths = sorted(length(function) for path in MODULES for function in functions(path))

    assert lengths[len(lengths) * 9 // 10] <= MAX_P90


def test_annotations_are_never_evaluated():
    line = "from __future__ import annotations\n"

    assert [name_of(path) for path in OURS if path.read_text() and line not in path.read_text()] == []


def test_every_module_says_what_it_is_for():
    assert [name_of(path) for path in MODULES if path.read_text() and not ast.get_docstring(tree(path))] == []


def test_no_shell_and_no_print():
    found = {(name_of(path), ast.unparse(call.func)) for path in MODULES for call in calls(path)}
    may_print = {
        name_of(path) for path in MODULES if package_of(path) in ("cli", NOTEBOOK.name) or "agent" in path.parts
    }

    assert [name for name, call in found if call in SHELLS and name not in GUESTS] == []
    assert [name for name, call in found if call == "print" and name not in may_print] == []


def test_no_program_is_started_through_a_shell():
    # What IPython calls a shell is handed to the class above, and is no program.
    found = [(path, call) for path in MODULES for call in calls(path) if ast.unparse(call.func) != "super().__init__"]

    assert [name_of(path) for path, call in found if "shell" in {keyword.arg for keyword in call.keywords}] == []


def test_a_broad_except_goes_on_up_or_says_why():
    assert [
        f"{name_of(path)}:{handler.lineno}"
        for path in MODULES
        for handler in ast.walk(tree(path))
        if isinstance(handler, ast.ExceptHandler) and is_broad(handler) and not is_explained(handler, path)
    ] == []


def test_a_port_has_at_most_eight_methods():
    methods = {
        node.name: sum(isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) for part in node.body)
        for path in sorted((PACKAGE / "ports").glob("*.py"))
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases)
    }

    assert len(methods) >= 7
    assert {name: count for name, count in methods.items() if count > MAX_METHODS} == {}


def test_each_library_is_imported_in_one_package_only():
    assert [
        f"{name_of(path)} imports {library}"
        for path in MODULES
        for library in imported(path) & HOMES.keys()
        if HOMES[library] != package_of(path)
    ] == []


def test_every_library_that_is_imported_is_a_dependency_or_of_the_standard_library():
    found = set().union(*(imported(path) for path in MODULES))

    assert found - sys.stdlib_module_names - HOMES.keys() == {"magpie_local", "notebook_ext"}


def test_the_domain_is_pure():
    used = set().union(*(imported(path) for path in MODULES if package_of(path) == "domain"))

    assert used & {"asyncio", "os", "socket", "subprocess", "time", "threading", "pathlib"} <= {"pathlib"}


def test_imports_go_downwards_only():
    tool = Path(sysconfig.get_path("scripts")) / "lint-imports"

    ended = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout
