"""`magpie top`: what the VMs of jobs take of this machine."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from magpie_local import lookup
from magpie_local.cli import completion, render
from magpie_local.cli.quantities import DURATION
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.domain.sizes import MIB, format_bytes, format_count, format_seconds
from magpie_local.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from magpie_local import Magpie
    from magpie_local.api.metrics import JobUsage

_EXAMPLES = """\b
Examples:
  magpie top                           all VMs, until Ctrl-C
  magpie top 3f2a --interval 500ms     one job, until its VM is gone
  magpie top --json | jq '.[].sample.memory'

\b
CPU is in percent of one core, MEMORY what is the VM's alone, of what it may take.
What a fork shares with its template does not count.
"""
#: Seconds that the CPU use of a single table is the mean of.
_GLANCE = 0.5
#: Erases to the end of the line, and what is below; the cursor to the begin of a line some lines up.
_REST, _BELOW, _UP = "\x1b[K", "\x1b[J", "\x1b[{}F"


@click.command(epilog=_EXAMPLES)
@click.argument("job_ids", metavar="[ID...]", nargs=-1, shell_complete=completion.job_ids)
@click.option("--interval", type=DURATION, default="2s", show_default=True, help="Time between two looks.")
@json_option
@pass_session
def top(session: Session, *, job_ids: tuple[str, ...], interval: float, as_json: bool) -> None:
    """Show the CPU and memory that VMs take.

    On a terminal the table is renewed; otherwise, and as JSON, it is printed once.
    """
    from magpie_local.api.metrics import check_interval

    check_interval(interval)
    with session.client() as client:
        wanted = [lookup.resolve(client, text) for text in job_ids] or None
        if not as_json and _is_terminal():
            _watch(lambda: _usage(client, wanted), interval, whole=wanted is None)
            return
        client.monitoring.usage(wanted)
        time.sleep(_GLANCE)
        found = client.monitoring.usage(wanted)
    if as_json:
        print_json([usage_json(one) for one in found])
    elif found:
        click.echo(usage_table(found))
    else:
        session.narrate("no job has a VM; `magpie ps --all` lists all jobs")


def usage_json(usage: JobUsage) -> dict[str, object]:
    """Return a job as all commands do, and `sample`."""
    return {**render.job_json(usage.job), "sample": usage.sample and usage.sample.to_json()}


def usage_table(usage: Sequence[JobUsage]) -> str:
    """Return what jobs' VMs take, one a line, those that take most first."""
    head = ("ID", "NAME", "STATUS", "CPU", "CPUS", "CPU TIME", "MEMORY", "OF")
    return render.table(head, [_row(one) for one in sorted(usage, key=_weight, reverse=True)])


def total_line(usage: Sequence[JobUsage], cores: int) -> str:
    """Return the sums of a table: `2 VMs · CPU 117% of 4 cores · memory 1.2 GiB`."""
    samples = [one.sample for one in usage if one.sample is not None]
    cpu, memory = sum(sample.cpu for sample in samples), sum(sample.memory for sample in samples)
    vms, host = format_count(len(samples), "VM"), format_count(cores, "core")
    return f"{vms} · CPU {100 * cpu:.0f}% of {host} · memory {format_bytes(memory)}"


def fitted(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """Return lines cut to a screen, so that none wraps or scrolls; the last one says how many are missing."""
    shown = [line if len(line) < columns else line[: max(0, columns - 2)] + "…" for line in lines]
    if len(shown) < rows:
        return shown
    keep = max(1, rows - 2)
    return [*shown[:keep], f"… and {len(shown) - keep} more"[: max(0, columns - 1)]]


def _usage(client: Magpie, wanted: list[str] | None) -> list[JobUsage]:
    try:
        return client.monitoring.usage(wanted)
    except JobNotFound:
        # One was deleted while we looked: the others go on.
        return [one for one in client.monitoring.usage() if wanted is None or one.job.id in wanted]


def _watch(look: Callable[[], list[JobUsage]], interval: float, *, whole: bool) -> None:
    """Renew the table until Ctrl-C, or, of chosen jobs, until none has a VM."""
    drawn = 0
    try:
        while True:
            usage = look()
            text = [total_line(usage, os.cpu_count() or 1), "", *usage_table(usage).split("\n")]
            lines = fitted(text, *shutil.get_terminal_size())
            up = _UP.format(drawn) if drawn else ""
            sys.stdout.write(up + "".join(f"{line}{_REST}\n" for line in lines) + _BELOW)
            sys.stdout.flush()
            drawn = len(lines)
            if not whole and all(one.job.is_final and one.sample is None for one in usage):
                return
            time.sleep(interval)
    except KeyboardInterrupt:
        return  # how one leaves it


def _row(usage: JobUsage) -> tuple[str, ...]:
    job, sample = usage.job, usage.sample
    used = ("-", "-", "-")
    if sample is not None:
        used = (f"{100 * sample.cpu:.0f}%", format_seconds(sample.cpu_seconds), format_bytes(sample.memory))
    name = job.name if len(job.name) <= 30 else job.name[:29] + "…"
    cpu, spent, memory = used
    return (
        job.id[: render.SHORT],
        name,
        job.status,
        cpu,
        str(job.vcpus),
        spent,
        memory,
        format_bytes(job.memory_mb * MIB),
    )


def _weight(usage: JobUsage) -> tuple[float, int]:
    return (-1.0, 0) if usage.sample is None else (round(usage.sample.cpu, 2), usage.sample.memory)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
