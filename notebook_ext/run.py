"""`%%magpie`: from a cell's line and body to a job that is shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from magpie_local import MagpieError
from magpie_local.view import words
from notebook_ext import values
from notebook_ext.background import Background
from notebook_ext.carry import luggage, transport
from notebook_ext.cell import Foreground, Manner
from notebook_ext.interrupts import Presses
from notebook_ext.short import LeftRunning, shortened, usage

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from magpie_local import Job
    from notebook_ext.frontend import Frontend
    from notebook_ext.magics import MagpieMagics
    from notebook_ext.options import CellOptions
    from notebook_ext.session import Session

#: How many times more lines a cell prints than a display shows.
MANY = 50
#: Options that mean something in a VM that is there already.
_IN_VM = {"vm", "env", "secret", "timeout", "python", "into", "out", "no_raise", "quiet"}


class CellRun:
    """One run of a cell.

    Args:
        magics: their settings.
        options: what the cell's line says.
        body: the script.

    Raises:
        UsageError: a variable of --in does not exist, or can't be carried.
    """

    def __init__(self, magics: MagpieMagics, options: CellOptions, body: str) -> None:
        self._magics = magics
        self._options = options
        self._luggage = luggage.pack(options, body, magics.shell.user_ns)
        #: What of --out did not come back, and why.
        self._missing: list[str] = []
        self._session: Session = magics.session
        self._frontend: Frontend = magics.frontend
        self._shell: InteractiveShell = magics.shell

    def run(self) -> None:
        """Submit the job and show it.

        Raises:
            UsageError: something is asked for that can't be.
            MagpieError: the job was not accepted, did not succeed, or was left.
        """
        wish = self._wish()
        if not self._options.again:
            self._check_rerun(str(wish["description"]))
        with Presses() as presses:
            presses.may_raise = True
            try:
                job = self._session.client.jobs.create(**wish)
            except KeyboardInterrupt:
                raise shortened(LeftRunning("Left before the job was accepted.", hint="")) from None
            presses.may_raise = False
            self._set(job)
            if self._is_background():
                self._show_behind(job)
                return
            Foreground(self._session, self._manner(), presses, self._ended).show(job)
        if self._missing and self._raises_missing():
            raise usage(f"%%magpie: {'; '.join(self._missing)}")

    def _is_background(self) -> bool:
        return self._options.bg and self._frontend.is_interactive

    def _show_behind(self, job: Job) -> None:
        short = job.id[: words.SHORT]
        if self._frontend.is_notebook:
            magics = self._magics
            Background(self._session, lines=magics.tail_lines, live=magics.live, changed=self._ended).show(job)
        else:
            print(f"job {short} runs in the background: %magpie attach {short}", file=sys.stderr)

    def _manner(self) -> Manner:
        return Manner(
            is_notebook=self._frontend.is_notebook,
            most_lines=self._magics.tail_lines * MANY,
            live=self._magics.live,
            quiet=self._options.quiet,
            raises=self._magics.raise_on_error and not self._options.no_raise,
        )

    def _wish(self) -> dict[str, Any]:
        """Return what jobs.create is called with."""
        options, variables = self._options, self._shell.user_ns
        return {
            "name": options.name or f"cell {self._shell.execution_count}",
            "script": self._luggage.script,
            "vcpus": options.vcpus,
            "memory_mb": options.memory,
            "stateful": options.workspace is not None,
            "workspace_id": options.workspace,
            "workspace_size_gb": options.size,
            "persistent": options.persistent,
            "network": options.network,
            "uploads": {**values.uploads(options.put), **self._luggage.uploads},
            "outputs": (*values.patterns(options.get), *self._luggage.outputs),
            "env": values.environment(options.env, variables),
            "secret_env": values.secrets(options.secret, variables) or None,
            "timeout": options.timeout if options.timeout is not None else self._magics.seconds,
            "image": options.image or self._magics.image,
            "description": self._frontend.cell,
        }

    def _check_rerun(self, cell: str) -> None:
        """Refuse to start what still runs: a cell is easily run twice, its job is not wanted twice."""
        if not cell:
            return
        for status in ("running", "pending"):
            for job in self._session.client.jobs.list(limit=1000, status=status):
                if job.description == cell and not job.is_final:
                    short = job.id[: words.SHORT]
                    raise usage(
                        f"This cell's job {short} still runs: `%magpie attach {short}` shows it, `%magpie stop {short}`"
                        " ends it, `%%magpie --again` starts another."
                    )

    def _set(self, job: Job) -> None:
        if self._options.output is not None:
            self._shell.user_ns[self._options.output] = job

    def _ended(self, job: Job) -> str | None:
        """Take what the job has left; returns what there is to say of it.

        The variable gets the job as it ended, unless somebody has given it another value meanwhile.
        """
        name = self._options.output
        if name is not None and getattr(self._shell.user_ns.get(name), "id", None) == job.id:
            self._shell.user_ns[name] = self._session.client.jobs.get(job.id)
        try:
            self._unpack(job)
            notes = [] if self._raises_missing() else list(self._missing)
            if self._options.get and not values.fetch(self._session.client, job, self._options.get):
                notes.append(f"nothing to bring back: no file is called {', '.join(self._options.get)}")
        except (OSError, MagpieError) as error:
            return f"not all could be brought back: {error}"
        return "; ".join(notes) or None

    def _unpack(self, job: Job) -> None:
        """Set the variables of --out, where the script has succeeded."""
        if job.success and self._options.out:
            found, self._missing = transport.from_job(self._session.client, job.id, self._luggage)
            self._shell.user_ns.update(found)

    def _raises_missing(self) -> bool:
        """Whether a variable that does not come back is an error of the cell: those after it would go on without."""
        return not self._options.no_raise and not self._is_background()


def in_vm_only(options: CellOptions) -> list[str]:
    """Return the options that mean nothing beside --vm."""
    default = type(options)()
    return [
        f"--{key.replace('_', '-')}"
        for key in options.__slots__
        if key not in _IN_VM and getattr(options, key) != getattr(default, key)
    ]
