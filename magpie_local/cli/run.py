"""`magpie run`: hand over a script, show its output, end as it ended."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from magpie_local.cli import completion, output, render
from magpie_local.cli.interrupts import Interrupts, Leave
from magpie_local.cli.quantities import DISK, DURATION, MEMORY, SIZE, environment, in_gib, in_mib
from magpie_local.cli.secrets import secret_environment
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.domain.spec import ISOLATIONS, MAX_NAME, MAX_SCRIPT
from magpie_local.errors import InvalidInput, MagpieError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from magpie_local import Job, Magpie
    from magpie_local.domain.secret import Secrets

_SCRIPT = click.Path(exists=True, dir_okay=False, allow_dash=True)
_COMMAND = "magpie_local.command"
_EXAMPLES = """\b
Examples:
  magpie run train.sh --vcpus 2 --memory 4GB --timeout 30m
  magpie run -e TOKEN -e MODE=fast -- python3 -c 'import os; print(os.environ["MODE"])'
  echo 'uname -a' | magpie run -
  id=$(magpie run --detach build.sh); magpie logs -f "$id"

\b
The exit code is the job's own; 124 after its timeout, 130 when it was stopped, 255 when magpie_local
or this machine failed. Ctrl-C asks the job to stop; a second Ctrl-C
leaves without waiting for that, and the job ends by itself.
"""


class _Options(TypedDict):
    """What the command line says of the job."""

    name: str | None
    vcpus: int
    memory: int
    timeout: float | None
    env: tuple[str, ...]
    secret: tuple[str, ...]
    image: str
    log_limit: int | None
    isolation: str
    stateful: bool
    workspace: str | None
    workspace_size: int | None
    base_workspace: str | None
    persistent: bool
    idle_pause: float | None
    network: str | None
    ipv6_lease: str | None
    upload: tuple[str, ...]
    output: tuple[str, ...]


class _Wish(TypedDict):
    """What jobs.create is called with."""

    name: str
    script: bytes
    vcpus: int
    memory_mb: int
    env: dict[str, str]
    secret_env: Secrets | None
    timeout: float | None
    image: str
    log_limit: int | None
    isolation: str
    stateful: bool
    workspace_id: str | None
    workspace_size_gb: int | None
    base_workspace_id: str | None
    persistent: bool
    idle_pause: float | None
    network: str | None
    ipv6_lease: str | None
    uploads: dict[str, Path]
    outputs: tuple[str, ...]


class _RunCommand(click.Command):
    """Takes what follows `--` as the command to run: click alone drops the mark."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "SCRIPT | - | -- COMMAND [ARG]..."]


@click.command(cls=_RunCommand, epilog=_EXAMPLES)
@click.argument("script", metavar="SCRIPT", required=False, type=_SCRIPT)
@click.option("--name", help="Name of the job; default: the script's or command's.")
@click.option("--vcpus", type=int, default=1, show_default=True, help="Virtual CPUs.")
@click.option("--memory", type=MEMORY, default="512MB", show_default=True, help="Memory, as 4GB; a bare number is MB.")
@click.option("--timeout", type=DURATION, help="Longest run time of the script, as 90s, 5m, 1h.")
@click.option("-e", "--env", "env", multiple=True, metavar="KEY[=VALUE]", help="Variable; KEY alone passes ours on.")
@click.option(
    "--secret",
    multiple=True,
    metavar="KEY[@FILE]",
    help="Variable that nobody sees: from our environment, a file, or a prompt; never the command line.",
)
@click.option(
    "--image", default="base", show_default=True, shell_complete=completion.image_names, help="Image to boot."
)
@click.option("--log-limit", type=SIZE, help="Most output kept, as 64MB; default from the settings.")
@click.option(
    "--isolation", type=click.Choice(ISOLATIONS), default="shared", show_default=True,
    help="private: a VM that shares no memory page with another; it boots afresh.",
)  # fmt: skip
@click.option("--stateful", is_flag=True, help="Mount a disk that outlives the job at /workspace.")
@click.option("-w", "--workspace", metavar="ID", help="Which one; the first job that names it makes it.")
@click.option("--workspace-size", type=DISK, help="Size of a new workspace, as 20GB; default 10GB.")
@click.option("--base-workspace", metavar="ID", help="Workspace whose content a new one begins with.")
@click.option("--persistent", is_flag=True, help="Keep the VM after the script, until `magpie stop`.")
@click.option("--idle-pause", type=DURATION, help="Such a VM sleeps after that long without a connection, as 10m.")
@click.option("--network", metavar="NAME", help="default (the internet), none, or a private network between VMs.")
@click.option("--ipv6-lease", metavar="NAME", help="Name of an IPv6 address that the VM has on its network.")
@click.option(
    "--upload",
    multiple=True,
    metavar="SRC[:DST]",
    help="File or folder for the guest; DST begins at the script's working directory.",
)
@click.option("--output", multiple=True, metavar="PATTERN", help="Files to collect when the script has ended.")
@click.option("-d", "--detach", is_flag=True, help="Print the id and return once the job is accepted.")
@click.option("-q", "--quiet", is_flag=True, help="No narration on stderr.")
@json_option
@click.pass_context
@pass_session
def run(
    session: Session,
    context: click.Context,
    /,
    *,
    script: str | None,
    detach: bool,
    quiet: bool,
    as_json: bool,
    **options: Unpack[_Options],
) -> None:
    """Run a bash script, or one command, in a fresh virtual machine."""
    name, content = _content(script, context.meta.get(_COMMAND))
    wish = _wish(name, content, options)
    with session.client(lead=True) as client:
        if detach:
            job = client.jobs.create(**wish)
            print_json(render.job_json(job)) if as_json else click.echo(job.id)
            return
        code = _Foreground(session, client, quiet=quiet, as_json=as_json).run(wish)
    context.exit(code)


class _Foreground:
    """A job whose output is shown until it ends, or until the user leaves."""

    def __init__(self, session: Session, client: Magpie, *, quiet: bool, as_json: bool) -> None:
        self._session = session
        self._client = client
        self._quiet = quiet
        self._as_json = as_json
        self._id: str | None = None

    def run(self, wish: _Wish) -> int:
        """Create the job, show it, and return the exit code."""
        signals = Interrupts(self._ask_stop)
        try:
            with signals:
                job = self._client.jobs.create(**wish)
                self._id = job.id
                self._narrate(render.start_line(job))
                if signals.asked:
                    self._ask_stop()  # Ctrl-C came before there was an id to stop
                return self._show(job.id)
        except (Leave, Exception) as gone:
            # A signal may land anywhere in the client: what it breaks there means nothing to a user who has left.
            if signals.left is None and not isinstance(gone, BrokenPipeError):
                raise
            with suppress(OSError):
                self._say_goodbye(asked=signals.asked)
            if signals.left is None:
                raise
            return signals.left

    def _show(self, job_id: str) -> int:
        warned = False
        for chunk in self._client.jobs.stream_logs(job_id):
            if not warned:
                warned = True
                self._warn(self._client.jobs.get(job_id))
            output.write_json(chunk) if self._as_json else output.write(chunk)
        job = self._client.jobs.wait(job_id)
        if not warned:
            self._warn(job)
        if self._as_json:
            click.echo(json.dumps(render.job_json(job)))
        self._narrate(render.end_line(job))
        code = render.exit_status(job)
        return render.OURS if code is None else code

    def _warn(self, job: Job) -> None:
        if line := render.accelerator_line(job):
            self._narrate(line)

    def _ask_stop(self) -> None:
        # We are inside a signal handler: the client may hold locks of this very thread.
        if self._id is not None:
            threading.Thread(target=self._stop, args=(self._id,), daemon=True).start()

    def _stop(self, job_id: str) -> None:
        self._narrate(f"stopping job {job_id[: render.SHORT]}; Ctrl-C again leaves without waiting for it")
        try:
            self._client.jobs.request_stop(job_id)
        except MagpieError as error:
            self._session.complain(error)

    def _say_goodbye(self, *, asked: bool) -> None:
        if self._id is None:
            return
        short = self._id[: render.SHORT]
        end = "it was asked to stop" if asked else f"`magpie stop {short}` ends it"
        self._narrate(f"job {self._id} still runs: `magpie logs -f {short}` shows it, {end}")

    def _narrate(self, text: str) -> None:
        if not self._quiet:
            self._session.narrate(text)


def _content(script: str | None, command: Sequence[str] | None) -> tuple[str, bytes]:
    """Return a default name and the script's bytes."""
    if command is not None and script is not None:
        raise click.UsageError("Give either a script or `-- COMMAND`, not both.")
    if command:
        return os.path.basename(command[0]) or "command", b"exec -- " + os.fsencode(shlex.join(command)) + b"\n"
    if script is None:
        raise click.UsageError("Give a script file, `-` for standard input, or `-- COMMAND`.")
    # One byte more than is allowed is enough to be refused.
    if script == "-":
        return "stdin", sys.stdin.buffer.read(MAX_SCRIPT + 1)
    try:
        with Path(script).open("rb") as file:
            return Path(script).name, file.read(MAX_SCRIPT + 1)
    except OSError as error:
        raise InvalidInput("SCRIPT", script, f"it can't be read: {error.strerror}") from None


def _wish(name: str, content: bytes, options: _Options) -> _Wish:
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)[:MAX_NAME]
    return _Wish(
        name=printable if options["name"] is None else options["name"],
        script=content,
        vcpus=options["vcpus"],
        memory_mb=in_mib(options["memory"]),
        env=environment(options["env"]),
        secret_env=secret_environment(options["secret"]),
        timeout=options["timeout"],
        image=options["image"],
        log_limit=options["log_limit"],
        isolation=options["isolation"],
        stateful=options["stateful"] or bool(options["workspace"] or options["base_workspace"]),
        workspace_id=options["workspace"],
        workspace_size_gb=in_gib(options["workspace_size"]),
        base_workspace_id=options["base_workspace"],
        persistent=options["persistent"],
        idle_pause=options["idle_pause"],
        network=options["network"],
        ipv6_lease=options["ipv6_lease"],
        uploads=dict(map(_upload, options["upload"])),
        outputs=options["output"],
    )


def _upload(entry: str) -> tuple[str, Path]:
    """Return the path in the guest and the source of `SRC[:DST]`; a source with a colon in it is written ./a:b:DST."""
    source, colon, destination = entry.rpartition(":")
    if not colon or not source or Path(entry).exists():
        source, destination = entry, Path(entry).resolve().name
    return destination, Path(source)
