"""What is sent to a VM to have a command run in it, and to have its process group ended. Pure: text in, text out.

OpenSSH's server starts each command as `SHELL -c TEXT`, the leader of a session and process group of its own. The
text begins with a line of ours, which costs no further process:

- it prints a mark with the shell's process id, the group's as well, so that it can be killed later;
- it reads the environment from the input: arguments are for every user of the VM to see, and the server's own way
  (`AcceptEnv`) drops without a word what is over 128 variables;
- it enters the folder.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The kernel's limit for one argument (MAX_ARG_STRLEN, execve(2)) less room for our own line.
MAX_COMMAND = 120 * 1024
#: Most bytes of what a login may print before the mark; then there is none to come.
MAX_NOISE = 64 * 1024

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_ENTRY = 126

#: Ends process groups: SIGTERM, SIGKILL to what is still there a second later. What was started with sudo is another
#: user's, whom a plain kill does not reach.
_END = """\
end() {
    [ $# -gt 0 ] || return
    for p; do kill -s TERM -- "-$p"; done
    n=0
    while [ $n -lt 20 ] && for p; do kill -s 0 -- "-$p" && break; done; do sleep 0.05; n=$((n + 1)); done
    for p; do
        kill -s KILL -- "-$p"
        if pgrep -g "$p"; then sudo -n kill -s KILL -- "-$p"; fi
    done
} >/dev/null 2>&1
"""
#: Keeps account of running groups (`+ 123`, `- 123`), and ends them once nobody is left to tell it anything.
GUARD = f"""\
{_END}
g=' '
while read -r word p; do
    case $word in
    +) g="$g$p " ;;
    -) g="${{g%% $p *}} ${{g#* $p }}" ;;
    esac
done
end $g
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A command made ready."""

    #: What the server's shell is given.
    text: str
    #: What goes before the command's own input.
    preamble: bytes = field(repr=False)


def wrap(
    command: str | Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None, nonce: str
) -> Wrapped:
    """Return a command made ready.

    Raises:
        InvalidInput: the command, the folder or a variable can't be passed on.
    """
    given = env or {}
    _check_env(given)
    steps = [f'echo "magpie:{nonce}:$$"']
    if any("\n" in value for value in given.values()):
        steps.append("_magpie_n='\n'")
    if given:  # both variables are ours, and gone before the command begins
        steps.append('IFS= read -r _magpie && eval "$_magpie"; unset _magpie _magpie_n')
    if cwd is not None:
        steps.append(f"cd {shlex.quote(_no_option('cwd', cwd))} || exit {_NO_ENTRY}")
    text = "; ".join(steps) + "\n" + _line(command)
    if len(text.encode(errors="surrogateescape")) > MAX_COMMAND:
        raise InvalidInput(
            "command", f"{len(text)} characters", f"at most {MAX_COMMAND} bytes",
            hint="Pass a long script as input: run(['bash', '-s'], stdin=script).",
        )  # fmt: skip
    # Last, and in no variable: a traceback may show what a frame holds.
    return Wrapped(text=text, preamble=_exports(given).encode(errors="surrogateescape"))


def end_group(group: int) -> str:
    """Return the text that ends a process group; it returns when nothing of it is left."""
    return f"{_END}\nend {group}\n"


def mark(nonce: str) -> bytes:
    """Return what begins the line in which the command's shell tells its process id."""
    return f"magpie:{nonce}:".encode()


def _line(command: str | Sequence[str]) -> str:
    if isinstance(command, str):
        return _no_nul("command", command)
    if not command:
        raise InvalidInput("command", command, "a list names at least the program")
    # exec: the program takes the shell's place, and its end, also by a signal, is told as it was.
    return "exec " + shlex.join(_no_nul("command", part) for part in command)


def _check_env(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput("env", name, "a name is letters, digits and '_', and does not begin with a digit")
        _no_nul(f"env[{name!r}]", value)


def _exports(env: Mapping[str, str]) -> str:
    """Return one line of shell text that exports variables; nothing when there are none."""
    # The line would end at a value's newline.
    parts = [
        f"export {name}=" + shlex.quote(value).replace("\n", "'\"$_magpie_n\"'") for name, value in env.items()
    ]  # fmt: skip
    return "; ".join(parts) + "\n" if parts else ""


def _no_nul(field: str, text: object) -> str:
    if not isinstance(text, str) or "\0" in text:
        shown = type(text).__name__ if not isinstance(text, str) else "text with a NUL character"
        raise InvalidInput(field, shown, "text without NUL characters")
    return text


def _no_option(field: str, path: str) -> str:
    """Return a path that no program takes for an option, nor `cd` for the folder before (`-`)."""
    return f"./{path}" if _no_nul(field, path).startswith("-") else path
