"""The command group, and the one place where errors become messages and exit codes.

0-254   the job's own exit code (run, wait)
1       doctor --verify-forks: forks are not clean
2       wrong usage, or a value that is not allowed
3       no such job, image, template or workspace
124     the job's timeout was over
130     interrupted, or the job was stopped
255     magpie_local itself, or this machine
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

import magpie_local
from magpie_local.cli import (
    completion,
    configuration,
    doctor,
    images,
    jobs,
    logs,
    networks,
    remote,
    render,
    run,
    templates,
    top,
    workspaces,
)
from magpie_local.cli.session import Session, pass_session
from magpie_local.errors import MagpieError

PIPE_CLOSED = 141

_EXAMPLES = """\b
Examples:
  magpie run -- echo hello            run one command in a fresh VM
  magpie run train.sh --memory 4GB    run a script
  magpie ps                           what waits and runs
  magpie logs -f 3f2a                 follow a job's output
  magpie doctor                       what this machine lacks
"""


class _Ordered(click.Group):
    """Lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Ordered,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(magpie_local.__version__, prog_name="magpie", message="%(prog)s %(version)s")
@click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), help="State directory, instead of MAGPIE_HOME."
)
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of what happens inside.")
@pass_session
def magpie(session: Session, state_dir: Path | None, debug: bool) -> None:
    """Run bash scripts in real virtual machines on this machine: offline, no account, no daemon."""
    session.state_dir = state_dir
    session.debug = debug
    if debug:
        import logging

        logging.basicConfig(format="%(relativeCreated)7.0f ms %(name)s %(message)s")
        logging.getLogger("magpie").setLevel(logging.DEBUG)


for command in (
    run.run,
    jobs.ps,
    jobs.status,
    top.top,
    logs.logs,
    jobs.wait,
    jobs.stop,
    jobs.rm,
    jobs.sleep,
    jobs.wake,
    remote.ssh,
    remote.exec_,
    remote.cp,
    remote.forward,
    remote.outputs,
    images.images,
    templates.templates,
    workspaces.workspaces,
    networks.networks,
    doctor.doctor,
    configuration.config,
    completion.completion,
):
    magpie.add_command(command)


def main() -> None:
    """Run the `magpie` command and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    if instruction := os.environ.get(completion.VARIABLE):
        sys.exit(completion.answer(magpie, instruction))
    code = guarded(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _pipe_closed()
    sys.exit(code)


def guarded(arguments: list[str]) -> int:
    """Run a command line and return its exit code; every error has been reported."""
    session = Session()
    try:
        with magpie.make_context("magpie", arguments, obj=session) as context:
            magpie.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except Exception as error:  # the edge: whatever happens inside becomes a message and an exit code here
        return report(session, error)
    except KeyboardInterrupt:
        session.narrate("interrupted")
        return render.INTERRUPTED
    return 0


def report(session: Session, error: Exception) -> int:
    """Tell the user of an error, and return the exit code for it."""
    if session.debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code if isinstance(error, click.UsageError) else render.OURS
    if isinstance(error, click.Abort):
        return render.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return _pipe_closed()
    if isinstance(error, MagpieError):
        return session.complain(error)
    fault = MagpieError(
        f"This is a bug in magpie_local: {type(error).__name__}: {error}",
        hint="" if session.debug else "`magpie --debug ...` shows the traceback; please report it.",
    )
    return session.complain(fault)


def _pipe_closed() -> int:
    # The interpreter flushes stdout once more at exit; it must find something that takes it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
