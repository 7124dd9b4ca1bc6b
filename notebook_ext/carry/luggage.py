"""What one cell takes along of its notebook, and brings back: `--python`, `--in` and `--out`."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie_local.view.plain import one_line
from notebook_ext.carry import plain, shell
from notebook_ext.carry.plain import LIMIT, CarryError
from notebook_ext.short import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from notebook_ext.options import CellOptions

#: Where it lies in the guest, from the script's working directory: hidden, so that no pattern means it.
FOLDER = ".magpie-cell"
#: The modules that run a cell in the guest, and the package that they are there.
_MODULES, _PACKAGE = ("__init__", "plain", "arrays", "frames", "guest"), "_magpie_carry"
_START = f"import os\nfrom {_PACKAGE}.guest import main\nmain(os.path.dirname(os.path.abspath(__file__)))\n"
#: Most characters of what there is to say of a variable.
_WORDS = 500
#: Beside the magic's own line: the cell's lines are counted as its editor does.
_FIRST_LINE = "# %%magpie\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Luggage:
    """What goes with a cell.

    Attributes:
        files: content by path below the folder.
        script: what bash runs.
        wanted: the variables to bring back.
        python: they are carried values; otherwise files that a bash script has made.
    """

    files: Mapping[str, bytes]
    script: str
    wanted: tuple[str, ...] = ()
    python: bool = False
    folder: str = FOLDER

    @property
    def out(self) -> str:
        """The folder of what comes back, from the working directory."""
        return f"{self.folder}/out"

    @property
    def uploads(self) -> dict[str, bytes]:
        """The files by their path from the working directory."""
        return {f"{self.folder}/{path}": data for path, data in self.files.items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is to be collected."""
        return (self.out,) if self.wanted else ()

    def unpack(self, found: Mapping[str, int], read: Callable[[str], bytes]) -> tuple[dict[str, Any], list[str]]:
        """Return the variables that have come back, and for each other one what there is to say.

        Args:
            found: bytes of each file in the folder of what comes back, by its name.
            read: returns the content of one.
        """
        values: dict[str, Any] = {}
        problems = []
        for name in self.wanted:
            try:
                values[name] = self._value(name, found, read)
            except CarryError as error:
                problems.append(one_line(f"--out {name}: {error}", _WORDS))
        return values, problems

    def _value(self, name: str, found: Mapping[str, int], read: Callable[[str], bytes]) -> Any:
        endings = ("magpie", "error") if self.python else tuple(shell.ENDINGS)
        there = [ending for ending in endings if f"{name}.{ending}" in found]
        if not there:
            raise CarryError(
                "the script has not set it" if self.python else f"the script has not written $MAGPIE_OUT/{name}.json"
            )
        file = f"{name}.{there[0]}"
        if found[file] > LIMIT:
            raise CarryError(f"it has {found[file]} bytes; at most {LIMIT} are taken: write a file, and --get that")
        data = read(file)
        if there[0] == "error":
            raise CarryError(data[:_WORDS].decode(errors="replace"))
        return plain.loads(data) if self.python else shell.read(there[0], data)


def pack(options: CellOptions, body: str, variables: Mapping[str, object], folder: str = FOLDER) -> Luggage:
    """Return what goes with a cell.

    Raises:
        UsageError: a variable does not exist or can't be carried; says what to do.
    """
    if options.python:
        files = {f"in/{name}": _carried(name, variables, plain.dumps) for name in options.into}
        files |= {"cell.py": _source(body), "start.py": _START.encode()}
        files["task.json"] = json.dumps({"in": options.into, "out": options.out}).encode()
        here = Path(__file__).parent
        files |= {f"{_PACKAGE}/{name}.py": (here / f"{name}.py").read_bytes() for name in _MODULES}
        script = f"exec python3 -u {shlex.quote(folder)}/start.py\n"
        return Luggage(files=files, script=script, wanted=options.out, python=True, folder=folder)
    if not options.into and not options.out:
        return Luggage(files={}, script=body, folder=folder)
    files, exports = {}, []
    for name in _for_bash(options.into):
        ending, data = _carried(name, variables, shell.write)
        files[f"in/{name}.{ending}"] = data
        exports.append(f'export {name}="$PWD/{folder}/in/{name}.{ending}"')
    if _for_bash(options.out):
        place = f'"$PWD/{folder}/out"'
        exports.append(f"rm -rf {place}; mkdir -p {place}; export MAGPIE_OUT={place}")
    # On the line of the body's first: those of its errors are then right.
    return Luggage(files=files, script=f"{'; '.join(exports)}; {body}", wanted=options.out, folder=folder)


def _source(body: str) -> bytes:
    try:
        return (_FIRST_LINE + body).encode()
    except UnicodeEncodeError as error:
        raise usage(f"%%magpie: the script has half a character, {body[error.start - len(_FIRST_LINE)]!r}") from None


def _carried(name: str, variables: Mapping[str, object], write: Callable[[object], Any]) -> Any:
    if name not in variables:
        near = get_close_matches(name, [one for one in variables if not one.startswith("_")], n=1, cutoff=0.6)
        cure = f"did you mean {near[0]}?" if near else "set it in another cell"
        raise usage(f"%%magpie: --in {name}: there is no variable {name!r}; {cure}")
    try:
        data = write(variables[name])
    except CarryError as error:
        raise usage(f"%%magpie: --in {name}: {error}") from None
    size = len(data[1] if isinstance(data, tuple) else data)
    if size > LIMIT:
        raise usage(f"%%magpie: --in {name}: it takes {size} bytes, at most {LIMIT} do; write a file, and --put that")
    return data


def _for_bash(names: Iterable[str]) -> tuple[str, ...]:
    for name in names:
        if not name.isascii():
            raise usage(f"%%magpie: {name}: bash has no such variables; use the letters a to z, or --python")
    return tuple(names)
