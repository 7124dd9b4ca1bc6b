"""Runs the Python of a cell, in the guest: its variables come in, the wanted ones go out.

What lies beside this package: `cell.py`, `task.json` ({"in": [names], "out": [names]}) and a carried value for each
name of "in", in `in/`. What goes out is put into `out/`: NAME.magpie, or NAME.error with the reason.
"""

from __future__ import annotations

import json
import linecache
import os
import shutil
import sys
from types import ModuleType

from .plain import CarryError, Lacking, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

#: What tracebacks call the cell.
NAME = "<cell>"
#: The exit code of what was interrupted.
INTERRUPTED = 130


def main(folder: str) -> None:
    """Run the cell of a folder, which is removed; never returns."""
    with open(f"{folder}/task.json", encoding="utf-8") as file:
        task = json.load(file)
    with open(f"{folder}/cell.py", encoding="utf-8", newline="") as file:
        source = file.read()
    cell = ModuleType("__main__")
    try:
        _take_in(cell, folder, task["in"])
        code = _run(cell, source)
        wanted = task["out"] if code in (None, 0) else []
        carried = {f"{name}.{ending}": data for name in wanted for ending, data in [_carried(cell.__dict__, name)]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # on a workspace it would stay
    if carried:
        _put(f"{folder}/out", carried)
    raise SystemExit(code)


def _put(folder: str, files: dict[str, bytes]) -> None:
    os.makedirs(folder, exist_ok=True)
    for name, data in files.items():
        with open(f"{folder}/{name}", "wb") as file:
            file.write(data)


def _run(cell: ModuleType, source: str) -> object:
    """Run a cell as if it were a script; returns what it exits with, None at its end."""
    # As for any script: what lies in the working directory can be imported.
    sys.path[0], sys.argv = os.getcwd(), [NAME]
    sys.modules["__main__"] = cell
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    try:
        # Not what the import of __future__ in this file would have it be.
        exec(compile(source, NAME, "exec", dont_inherit=True), cell.__dict__)
    except SystemExit as error:
        return error.code
    except BaseException as error:  # whatever ends a script is shown as Python shows it
        trace = error.__traceback__
        _show(error, trace.tb_next if trace is not None else None)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return None


def _take_in(cell: ModuleType, folder: str, names: list[str]) -> None:
    for name in names:
        try:
            with open(f"{folder}/in/{name}", "rb") as file:
                setattr(cell, name, loads(file.read()))
        except Lacking as error:
            sys.exit(f"magpie: --in {name}: this image has no {error.package}; use --image science, or pip install it")
        except CarryError as error:
            sys.exit(f"magpie: --in {name}: {error}")


def _show(error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback that begins in the cell."""
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, trace)
        return
    # The interpreter's own way looks for the lines in a file.
    import traceback

    traceback.print_exception(type(error), error, trace)


def _carried(variables: dict[str, Any], name: str) -> tuple[str, bytes]:
    """Return the ending and the content of what goes out."""
    if name not in variables:
        return "error", b"the script has not set it"
    try:
        return "magpie", dumps(variables[name])
    except CarryError as error:
        return "error", str(error).encode()
    except Exception as error:  # a value of the user's, which may do what it likes
        return "error", f"it can't be carried: {error!r}"[:500].encode(errors="replace")
