"""The verbs that reach into the VM of a persistent job, and the files that a job hands over."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypedDict

import click

from magpie_local import lookup
from magpie_local.cli.jobs import job_argument
from magpie_local.cli.quantities import DURATION, environment
from magpie_local.cli.secrets import secret_environment
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.domain.sizes import format_bytes, format_count
from magpie_local.errors import HostError, InvalidInput, JobNotFound, StateError, VmUnreachable

if TYPE_CHECKING:
    from typing import Unpack

    from magpie_local import Magpie
    from magpie_local.api.models import ExecResult

_TIMED_OUT, _SIGNALLED = 124, 128
_command_argument = click.argument("command", nargs=-1, type=click.UNPROCESSED)


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  magpie ssh 3f2a                      a shell in the VM, as user magpie (who may sudo)
  magpie ssh 3f2a -- sudo dmesg
  magpie ssh 3f2a -- -L 8080:localhost:80 -N

\b
It is OpenSSH's own ssh, with a key and a configuration that are made for this VM alone; `magpie status ID --json`
and client.jobs.ssh(ID) name them for scp, sftp, rsync -e and editors.
""",
)
@job_argument
@_command_argument
@pass_session
def ssh(session: Session, *, job_id: str, command: tuple[str, ...]) -> None:
    """Open a shell in the VM of a persistent job, or run a command there."""
    program = shutil.which("ssh")
    if program is None:
        raise HostError("There is no ssh on this machine.", hint="apt-get install openssh-client")
    with session.client() as client:
        door = client.jobs.ssh(lookup.resolve(client, job_id))
    options = [word for word in command[:1] if word.startswith("-")]
    words = [*command, door.alias] if options else [door.alias, *command]
    sys.stdout.flush()
    os.execv(program, ["ssh", "-F", door.config, *words])


class _ExecOptions(TypedDict):
    """What the command line says beside the command."""

    timeout: float | None
    env: tuple[str, ...]
    secret: tuple[str, ...]
    cwd: str | None


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  magpie exec 3f2a -- ls -l /workspace
  magpie exec 3f2a --timeout 30s --secret TOKEN -- ./deploy.sh
  echo data | magpie exec 3f2a --stdin -- tee file

\b
The exit code is the command's own; 124 after the timeout (it is killed, with all that it has started).
""",
)
@job_argument
@_command_argument
@click.option("--timeout", type=DURATION, help="Longest time that it may run, as 90s or 5m.")
@click.option("-e", "--env", "env", multiple=True, metavar="KEY[=VALUE]", help="Variable; KEY alone passes ours on.")
@click.option("--secret", multiple=True, metavar="KEY[@FILE]", help="Variable that nobody sees.")
@click.option("--cwd", help="Folder of the VM to run it in.")
@click.option("--stdin", "takes_stdin", is_flag=True, help="Pass our standard input on.")
@json_option
@click.pass_context
@pass_session
def exec_(
    session: Session, context: click.Context, /, *, job_id: str, command: tuple[str, ...], takes_stdin: bool,
    as_json: bool, **options: Unpack[_ExecOptions],
) -> None:  # fmt: skip
    """Run a command in the VM of a persistent job."""
    if not command:
        raise InvalidInput("command", "", "give one: magpie exec ID -- COMMAND [ARG]...")
    stdin = sys.stdin.buffer.read() if takes_stdin else None
    with session.client() as client:
        result = client.jobs.exec(
            lookup.resolve(client, job_id), list(command), timeout=options["timeout"], env=environment(options["env"]),
            secret_env=secret_environment(options["secret"]), cwd=options["cwd"], stdin=stdin,
            on_output=None if as_json else _pass_on,
        )  # fmt: skip
    if as_json:
        print_json(result.to_json())
    context.exit(_exit_code(result))


@click.command(
    epilog="""\b
Examples:
  magpie cp data.csv 3f2a:data.csv
  magpie cp 3f2a:/workspace/results ./results
  magpie cp --replace model.bin 3f2a:/workspace/model.bin

\b
Folders are copied with all that is in them. Nothing that is there is overwritten unless --replace says so.
"""
)
@click.argument("source")
@click.argument("destination")
@click.option("--replace", is_flag=True, help="Let a file take the place of another.")
@pass_session
def cp(session: Session, *, source: str, destination: str, replace: bool) -> None:
    """Copy a file or a folder into the VM of a persistent job, or out of it."""
    from_vm, to_vm = _remote(source), _remote(destination)
    if (from_vm is None) == (to_vm is None):
        raise InvalidInput("cp", f"{source} {destination}", "one of both is in a VM: ID:PATH")
    with session.client() as client:
        if from_vm is not None:
            identity, path = from_vm
            report = client.jobs.files(lookup.resolve(client, identity)).download(path, destination, replace=replace)
        elif to_vm is not None:
            identity, path = to_vm
            report = client.jobs.files(lookup.resolve(client, identity)).upload(source, path, replace=replace)
    for note in report.notes:
        session.narrate(f"left out: {note}")
    counts = f"{format_count(report.files, 'file')}, {format_count(report.folders, 'folder')}"
    session.narrate(f"{counts}, {format_bytes(report.size)}")


@click.command(
    epilog="""\b
Examples:
  magpie outputs 3f2a                  lists the files that were collected
  magpie outputs 3f2a ./results        copies them to a folder
"""
)
@job_argument
@click.argument("folder", required=False)
@json_option
@pass_session
def outputs(session: Session, *, job_id: str, folder: str | None, as_json: bool) -> None:
    """List the files that a job was told to hand over (run --output), or copy them."""
    with session.client() as client:
        found = client.jobs.outputs(lookup.resolve(client, job_id))
        files = found.list() if folder is None else found.download(folder)
    if as_json:
        print_json([one.to_json() for one in files])
    elif files:
        for one in files:
            click.echo(one.path)
    else:
        session.narrate("no files were collected")


@click.command(
    epilog="""\b
Examples:
  magpie forward 3f2a 8000             prints the address at which port 8000 of the VM is reachable here
  magpie forward 3f2a 5432 --local-port 5432

\b
It lasts until Ctrl-C, or until the VM has gone.
"""
)
@job_argument
@click.argument("guest_port", type=click.IntRange(1, 65535))
@click.option(
    "--local-port", type=click.IntRange(0, 65535), default=0, help="Port of this machine; default: a free one."
)
@click.option("--local-host", default="127.0.0.1", show_default=True, help="Address of this machine to publish it on.")
@click.option("--guest-host", default="127.0.0.1", show_default=True, help="Address that the service listens on.")
@json_option
@pass_session
def forward(session: Session, /, *, job_id: str, guest_port: int, as_json: bool, **addresses: Any) -> None:
    """Make a service in the VM of a persistent job reachable on this machine."""
    with session.client() as client:
        _forward(session, client, lookup.resolve(client, job_id), guest_port, addresses, as_json)


def _forward(
    session: Session, client: Magpie, job_id: str, guest_port: int, addresses: dict[str, Any], as_json: bool
) -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with client.jobs.forward(job_id, guest_port, **addresses) as bound, suppress(KeyboardInterrupt):
        if as_json:
            print_json({"host": bound.host, "port": bound.port, "guest_port": guest_port})
        else:
            click.echo(f"{bound.host}:{bound.port}")
        sys.stdout.flush()
        session.narrate("until Ctrl-C")
        while not ended.wait(1.0):
            # Whoever connects from now on would wait, and be refused in the end.
            if _is_gone(client, job_id):
                raise VmUnreachable(f"The VM of job {job_id} is gone.")


def _is_gone(client: Magpie, job_id: str) -> bool:
    """Return whether the job's VM has gone; as long as the store can't be read, it has not."""
    try:
        return client.jobs.get(job_id).vm_state == "gone"
    except JobNotFound:
        return True
    except StateError:
        return False


def _pass_on(stream: str, data: bytes) -> None:
    target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
    with suppress(OSError):  # whoever read it has left; the command's own end counts
        target.write(data)
        target.flush()


def _exit_code(result: ExecResult) -> int:
    if result.timed_out:
        return _TIMED_OUT
    if result.exit_code is not None:
        return result.exit_code
    number = getattr(signal, f"SIG{result.signal}", None)
    return _SIGNALLED + int(number) if number is not None else 255


def _remote(name: str) -> tuple[str, str] | None:
    """Return job and path of `ID:PATH`; None for a path of this machine (./a:b is one as well)."""
    identity, colon, path = name.partition(":")
    return (identity, path or ".") if colon and identity and "/" not in identity else None
