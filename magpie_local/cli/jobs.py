"""The verbs on jobs that exist: ps, status, wait, stop, rm."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from magpie_local import lookup
from magpie_local.cli import completion, render
from magpie_local.cli.quantities import DURATION
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.domain.job import STATUSES
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from magpie_local import Job, Magpie

_UNFINISHED = ("running", "pending")

job_argument = click.argument("job_id", metavar="ID", shell_complete=completion.job_ids)
jobs_argument = click.argument("job_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completion.job_ids)


@click.command(
    epilog="""\b
Examples:
  magpie ps                            what waits and runs
  magpie ps --all --limit 20           the newest 20 of all jobs
  magpie ps --status failed --json
"""
)
@click.option("-a", "--all", "everything", is_flag=True, help="Jobs that ended, too.")
@click.option("--status", type=click.Choice(STATUSES), help="Only jobs of this status.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Most jobs shown.")
@click.option(
    "--before", metavar="ID", shell_complete=completion.job_ids, help="Only jobs older than this one: the next page."
)
@json_option
@pass_session
def ps(
    session: Session, *, everything: bool, status: str | None, limit: int, before: str | None, as_json: bool
) -> None:
    """List jobs, the newest first."""
    with session.client() as client:
        last = None if before is None else lookup.resolve(client, before)
        statuses = [status] if everything or status else _UNFINISHED
        jobs = _newest(client, statuses, limit, last)
    if as_json:
        print_json([render.job_json(job) for job in jobs])
    elif jobs:
        click.echo(render.jobs_table(jobs))
    else:
        session.narrate(
            "no jobs" if everything or status else "nothing waits or runs; `magpie ps --all` shows the rest"
        )


@click.command(
    epilog="""\b
Examples:
  magpie status                        who leads, what waits and runs, templates and pool
  magpie status 3f2a
  magpie status 3f2a --json | jq .story
"""
)
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=completion.job_ids)
@json_option
@pass_session
def status(session: Session, job_id: str | None, as_json: bool) -> None:
    """Print a job's facts and its story; without an ID, what goes on in all.

    The story has each event with its time and the time since the one before.
    """
    with session.client() as client:
        if job_id is None:
            found = client.monitoring.engine()
            print_json(found.to_json()) if as_json else click.echo(render.engine_details(found))
            return
        identity = lookup.resolve(client, job_id)
        job, story = client.jobs.get(identity), client.jobs.story(identity)
    if as_json:
        print_json({**render.job_json(job), "story": [render.event_json(event) for event in story]})
    else:
        click.echo(f"{render.job_details(job)}\n\n{render.story_table(story)}")


@click.command(
    epilog="""\b
Examples:
  magpie wait 3f2a && echo well done
  magpie wait 3f2a --timeout 5m

\b
The exit code is the job's own, as of `magpie run`; 255 when the time to wait is over first.
"""
)
@job_argument
@click.option("--timeout", type=DURATION, help="Longest time to wait, as 90s or 5m; the job goes on after it.")
@json_option
@click.pass_context
@pass_session
def wait(session: Session, context: click.Context, *, job_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a job has ended, and end as it ended."""
    with session.client() as client:
        job = client.jobs.wait(lookup.resolve(client, job_id), timeout=timeout)
    if as_json:
        print_json(render.job_json(job))
    else:
        session.narrate(render.end_line(job))
    context.exit(render.exit_status(job) or 0)


@click.command(
    epilog="""\b
Examples:
  magpie stop 3f2a
  magpie stop $(magpie ps --json | jq -r '.[].id')
"""
)
@jobs_argument
@click.pass_context
@pass_session
def stop(session: Session, context: click.Context, job_ids: tuple[str, ...]) -> None:
    """Stop jobs.

    The script gets SIGTERM, and after a grace SIGKILL. Prints the ids once they have stopped.
    """
    with session.client() as client:
        context.exit(_each(session, client, job_ids, lambda identity: client.jobs.stop(identity)))


@click.command(
    epilog="""\b
Examples:
  magpie rm 3f2a 91bc
  magpie rm --force 3f2a               stop it first
"""
)
@jobs_argument
@click.option("-f", "--force", is_flag=True, help="Stop a job that has not ended, then delete it.")
@click.pass_context
@pass_session
def rm(session: Session, context: click.Context, job_ids: tuple[str, ...], force: bool) -> None:
    """Delete jobs with their output and history. Prints their ids."""
    with session.client() as client:
        context.exit(_each(session, client, job_ids, lambda identity: client.jobs.delete(identity, force=force)))


@click.command(
    epilog="""\b
Examples:
  magpie sleep 3f2a                    its VM takes no memory; whoever connects to it wakes it
  magpie run --persistent --idle-pause 10m setup.sh      by itself, when nobody uses it

\b
Open connections to it end; what runs in it stands still.
"""
)
@jobs_argument
@click.pass_context
@pass_session
def sleep(session: Session, context: click.Context, job_ids: tuple[str, ...]) -> None:
    """Put the VMs of persistent jobs to sleep. Prints the ids once they sleep."""
    with session.client() as client:
        context.exit(_each(session, client, job_ids, lambda identity: client.jobs.sleep(identity)))


@click.command(
    epilog="""\b
Examples:
  magpie wake 3f2a                     ssh, exec, cp and forward wake it as well
"""
)
@jobs_argument
@click.pass_context
@pass_session
def wake(session: Session, context: click.Context, job_ids: tuple[str, ...]) -> None:
    """Wake the VMs of persistent jobs. Prints the ids once they run."""
    with session.client() as client:
        context.exit(_each(session, client, job_ids, lambda identity: client.jobs.wake(identity)))


def _newest(client: Magpie, statuses: Sequence[str | None], limit: int, before: str | None) -> list[Job]:
    pages = [client.jobs.list(limit=limit, status=status, before=before) for status in statuses]
    if len(pages) == 1:
        return pages[0]
    return sorted(itertools.chain(*pages), key=lambda job: job.created_at, reverse=True)[:limit]


def _each(session: Session, client: Magpie, texts: tuple[str, ...], verb: Callable[[str], object]) -> int:
    """Do `verb` to each job, whatever happens to the others; return the first error's exit code, or 0."""
    code = 0
    for text in texts:
        try:
            identity = lookup.resolve(client, text)
            verb(identity)
        except MagpieError as error:
            failed = session.complain(error)
            code = code or failed
        else:
            click.echo(identity)
    return code
