"""The options of `%%magpie`: one table, from which parsing, help and completion follow.

To add one, add a row here and a field to CellOptions of the same name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import TYPE_CHECKING

from magpie_local import InvalidInput
from magpie_local.domain.sizes import GIB, MIB, parse_duration, parse_size
from notebook_ext.short import unknown, usage

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOptions:
    """What the line of a cell says; None and empty: nothing."""

    name: str | None = None
    vcpus: int = 1
    memory: int = 512
    timeout: float | None = None
    workspace: str | None = None
    size: int | None = None
    persistent: bool = False
    vm: str | None = None
    image: str | None = None
    network: str | None = None
    env: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    put: tuple[str, ...] = ()
    get: tuple[str, ...] = ()
    python: bool = False
    into: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    output: str | None = None
    bg: bool = False
    no_raise: bool = False
    quiet: bool = False
    again: bool = False
    help: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option."""

    names: tuple[str, ...]
    help: str
    #: What stands for its value in the help; empty where it has none.
    metavar: str = ""
    #: May be given several times.
    many: bool = False
    #: Makes the value of its text; raises InvalidInput or ValueError.
    read: Callable[[str], object] = field(default=str)
    #: What completes its value: images, workspaces, jobs or variables.
    values: str = ""
    #: The field of CellOptions, where it is not the option's own name.
    dest: str = ""

    @property
    def key(self) -> str:
        """The field of CellOptions."""
        return self.dest or self.names[-1].lstrip("-").replace("-", "_")


def _memory(text: str) -> int:
    size = int(text) * MIB if text.isascii() and text.isdigit() else parse_size("--memory", text)
    return -(-size // MIB)


def _disk(text: str) -> int:
    size = int(text) * GIB if text.isascii() and text.isdigit() else parse_size("--size", text)
    return -(-size // GIB)


def _variable(text: str) -> str:
    if not text.isidentifier() or iskeyword(text):
        raise InvalidInput("-o", text, "write the name of a Python variable")
    return text


OPTIONS = (
    Option(names=("--name",), metavar="TEXT", help="Name of the job; default: that of the cell."),
    Option(names=("--vcpus",), metavar="N", read=int, help="Virtual CPUs (1)."),
    Option(names=("--memory",), metavar="SIZE", read=_memory, help="Memory, as 4GB; a bare number is MB (512)."),
    Option(
        names=("--timeout",), metavar="TIME", read=lambda text: parse_duration("--timeout", text),
        help="Longest run time, as 90s, 5m, 1h.",
    ),
    Option(
        names=("-w", "--workspace"), metavar="ID", values="workspaces",
        help="Mount this disk at /workspace; it outlives the job. The first job that names it makes it.",
    ),
    Option(names=("--size",), metavar="SIZE", read=_disk, help="Size of a new workspace, as 20GB (10GB)."),
    Option(names=("--persistent",), help="Keep the VM after the script, until `%magpie stop`."),
    Option(names=("--vm",), metavar="ID", values="jobs", help="Run in the VM of this persistent job."),
    Option(names=("--image",), metavar="NAME", values="images", help="Image to boot."),
    Option(names=("--network",), metavar="NAME", help="default (the internet), none, or a private network."),
    Option(
        names=("-e", "--env"), metavar="KEY[=VALUE]", many=True,
        help="Variable of the script; KEY alone takes the Python variable of that name.",
    ),
    Option(
        names=("--secret",), metavar="KEY", many=True,
        help="Variable that nobody sees: the Python variable of that name, or ours of the environment.",
    ),
    Option(names=("--put",), metavar="SRC[:DST]", many=True, help="File or folder for the guest."),
    Option(names=("--get",), metavar="SRC[:DST]", many=True, help="File, folder or pattern brought back at the end."),
    Option(names=("--python",), help="The body is Python, for the image's own; it is not expanded either."),
    Option(
        names=("--in",), metavar="VAR", many=True, read=_variable, values="variables", dest="into",
        help="Python variable for the script; in bash $VAR is the path of a file with it.",
    ),
    Option(
        names=("--out",), metavar="VAR", many=True, read=_variable, values="variables",
        help="Variable of the Python script that is set here at its end; bash writes $MAGPIE_OUT/VAR.json.",
    ),
    Option(names=("-o", "--output"), metavar="VAR", read=_variable, help="Set this variable to the Job, at once."),
    Option(names=("--bg",), help="Return at once; the display goes on."),
    Option(names=("--no-raise",), help="A job that fails is no error of the cell."),
    Option(names=("-q", "--quiet"), help="Only the job's own output."),
    Option(names=("--again",), help="Start another job though this cell's last one still runs."),
    Option(names=("-h", "--help"), help="Show this."),
)  # fmt: skip
BY_NAME = {name: option for option in OPTIONS for name in option.names}

EXAMPLES = """Examples:
  %%magpie
  uname -a

  %%magpie --vcpus 2 --memory 4GB --timeout 30m -w data -e EPOCHS -o job
  python3 train.py --epochs $EPOCHS

  %%magpie --bg --put src:src --get 'results/*.csv:results/'
  cd src && make report"""


def parse(line: str) -> CellOptions:
    """Return what a cell's line says.

    Raises:
        UsageError: names the word that is wrong, and what to type instead.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise usage(f"%%magpie: {str(error).lower()} in {line!r}; close the quote") from None
    found: dict[str, object] = {}
    while words:
        _take(words, found)
    return CellOptions(**found)  # type: ignore[arg-type]  # each value was made by its option's own reader


def _take(words: list[str], found: dict[str, object]) -> None:
    """Move the first option, with its value, from the words to what is found."""
    word = words.pop(0)
    name, equals, text = word.partition("=")
    option = BY_NAME.get(name)
    if option is None:
        raise _unknown(name)
    if not option.metavar:
        if equals:
            raise usage(f"%%magpie: {name} takes no value")
        found[option.key] = True
        return
    if not equals:
        if not words:
            raise usage(f"%%magpie: {name} wants a value: {name} {option.metavar}")
        text = words.pop(0)
    value = _read(option, name, text)
    if option.many:
        value = (*found.get(option.key, ()), value)  # type: ignore[misc]  # a tuple, by the line above
    found[option.key] = value


def _read(option: Option, name: str, text: str) -> object:
    try:
        return option.read(text)
    except InvalidInput as error:
        raise usage(f"%%magpie: {name} {text!r} is not allowed; {error.allowed}") from None
    except ValueError:
        raise usage(f"%%magpie: {name} {text!r} is not allowed; write a whole number") from None


def _unknown(word: str) -> Exception:
    if not word.startswith("-"):
        return usage(f"%%magpie: {word!r} is no option; the script goes below this line")
    return unknown("%%magpie: option", word, BY_NAME, "`%%magpie?` lists them")


def help_text() -> str:
    """Return all options, a line each, and examples."""
    rows = [(", ".join(one.names) + (f" {one.metavar}" if one.metavar else ""), one.help) for one in OPTIONS]
    width = max(len(names) for names, _ in rows)
    lines = "\n".join(f"  {names.ljust(width)}  {text}" for names, text in rows)
    return f"""%%magpie [OPTIONS]
SCRIPT

Run the cell's script (bash, or Python with --python) in a fresh virtual machine; its output appears as it comes. The
script is never expanded.

Options:
{lines}

{EXAMPLES}

The notebook's interrupt sends SIGINT to the script; a second one stops the job (TERM, then KILL); a third leaves it to
that, and prints its id.
"""
