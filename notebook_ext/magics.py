"""The magics `%%magpie` and `%magpie`, and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Bool, Int, TraitError, Unicode, validate

from magpie_local import InvalidInput, MagpieError
from magpie_local.domain.sizes import parse_duration
from notebook_ext import line as lines
from notebook_ext import options
from notebook_ext.completion import Completion
from notebook_ext.frontend import Frontend
from notebook_ext.invm import run_in_vm
from notebook_ext.run import CellRun
from notebook_ext.session import Session
from notebook_ext.settings import Project
from notebook_ext.short import shortened, usage

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_NAME = "magpie"
#: The session of this process; it outlives the extension's being unloaded and loaded again.
_sessions: dict[str, Session] = {}


@magics_class
class MagpieMagics(Magics):
    """Jobs of a notebook; `%config MagpieMagics` shows and sets these."""

    #: The settings' names.
    TRAITS = ("image", "timeout", "tail_lines", "raise_on_error", "live", "confirm_stop")

    image = Unicode("base", help="What VMs boot.").tag(config=True)
    timeout = Unicode("", help="Longest run time of a script, as 5m; empty: no limit.").tag(config=True)
    tail_lines = Int(200, min=1, help="Lines of output that a display shows.").tag(config=True)
    raise_on_error = Bool(True, help="Whether a job that fails is an error of its cell.").tag(config=True)
    live = Bool(True, help="Whether displays change while a job runs.").tag(config=True)
    confirm_stop = Bool(True, help="Whether a Stop button asks before it stops a job.").tag(config=True)

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        super().__init__(shell=shell)
        self.session = session
        self.frontend = Frontend(shell)
        self.shell: InteractiveShell = shell
        self._line = lines.LineMagic(self)

    @property
    def seconds(self) -> float | None:
        """The usual longest run time."""
        return parse_duration("MagpieMagics.timeout", self.timeout) if self.timeout else None

    @validate("timeout")
    def _valid_timeout(self, proposal: dict[str, Any]) -> str:
        text = str(proposal["value"])
        try:
            if text:
                parse_duration("MagpieMagics.timeout", text)
        except InvalidInput as error:
            raise TraitError(str(error)) from None
        return text

    @no_var_expand
    @cell_magic(_NAME)  # type: ignore[arg-type]  # IPython types its decorators as taking nothing
    def run_cell(self, line: str, cell: str) -> None:
        """Run the cell in a VM; `register` puts the whole help here."""
        wish = options.parse(line)
        if wish.help:
            print(options.help_text())
            return
        if not cell.strip():
            raise usage("%%magpie: there is nothing to run; write the script below this line")
        try:
            if wish.vm is not None:
                run_in_vm(self, wish, cell)
            else:
                CellRun(self, wish, cell).run()
        except (MagpieError, KeyboardInterrupt) as error:
            raise shortened(error) from None

    @no_var_expand
    @line_magic(_NAME)  # type: ignore[arg-type]
    def run_line(self, line: str) -> None:
        """Carry out a verb; `register` puts the whole help here."""
        try:
            self._line.run(line)
        except (MagpieError, KeyboardInterrupt) as error:
            raise shortened(error) from None


# What `%%magpie?` shows.
vars(MagpieMagics)["run_cell"].__doc__ = options.help_text()
vars(MagpieMagics)["run_line"].__doc__ = lines.help_text()


def register(shell: InteractiveShell) -> None:
    """Make the magics known to a shell, once.

    Raises:
        InvalidInput: pyproject.toml says something that is not allowed.
    """
    if _registered(shell) is not None:
        return
    try:
        magics = _make(shell)
    except MagpieError as error:
        _forget(shell)
        raise shortened(error) from None
    except TraitError as error:
        _forget(shell)
        # %config keeps a value that was refused.
        raise shortened(InvalidInput("MagpieMagics", dict(shell.config.MagpieMagics), str(error))) from None
    shell.register_magics(magics)
    matcher = Completion(magics.session).matcher()
    magics.matcher = matcher  # type: ignore[attr-defined]  # to take it away again
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(matcher)


def unregister(shell: InteractiveShell) -> None:
    """Take them away; taking away what is not there is nothing."""
    magics = _registered(shell)
    if magics is None:
        return
    manager = shell.magics_manager
    for kind in ("line", "cell"):
        manager.magics[kind].pop(_NAME, None)
    manager.registry.pop(type(magics).__name__, None)
    _forget(shell)
    if shell.Completer is not None and magics.matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(magics.matcher)


def _forget(shell: InteractiveShell) -> None:
    """Take away what Magics add by themselves when they are made."""
    shell.configurables[:] = [one for one in shell.configurables if not isinstance(one, MagpieMagics)]


def _registered(shell: InteractiveShell) -> Any:
    return shell.magics_manager.registry.get(MagpieMagics.__name__)


def _make(shell: InteractiveShell) -> MagpieMagics:
    """Return the magics, set up as the project and IPython's own configuration say; the latter has the last word."""
    # Read again each time: %reload_ext is how a changed pyproject.toml takes effect, for a client yet to be made.
    project = Project(Path.cwd(), MagpieMagics.TRAITS)
    session = _sessions.setdefault("", Session(project))
    session.project = project
    magics = MagpieMagics(shell, session)
    for name, value in session.project.traits.items():
        if name in shell.config.get("MagpieMagics", {}):
            continue
        try:
            setattr(magics, name, value)
        except TraitError as error:
            raise InvalidInput(f"[tool.magpie_local] {name}", value, str(error)) from None
    return magics
