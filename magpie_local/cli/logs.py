"""`magpie logs`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import click

from magpie_local import lookup
from magpie_local.cli import completion, output
from magpie_local.cli.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from magpie_local import LogChunk

_EXAMPLES = """\b
Examples:
  magpie logs 3f2a                     all output so far
  magpie logs -f 3f2a                  and what comes, until the job ends
  magpie logs --tail 20 3f2a
  magpie logs --stream stderr 3f2a
  magpie logs --json 3f2a | jq -r .text
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="ID", shell_complete=completion.job_ids)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream.")
@json_option
@pass_session
def logs(session: Session, job_id: str, follow: bool, tail: int | None, stream: str | None, as_json: bool) -> None:
    """Print a job's output, stdout to stdout and stderr to stderr."""
    write = output.write_json if as_json else output.write
    with session.client() as client:
        identity = lookup.resolve(client, job_id)
        skip = 0
        if tail is not None:
            skip = length_before(of_stream(client.jobs.stream_logs(identity, follow=False), stream), tail)
        for chunk in without(of_stream(client.jobs.stream_logs(identity, follow=follow), stream), skip):
            write(chunk)


def of_stream(chunks: Iterable[LogChunk], stream: str | None) -> Iterator[LogChunk]:
    """Yield the chunks of one stream, or all."""
    return (chunk for chunk in chunks if stream is None or chunk.stream == stream)


def length_before(chunks: Iterable[LogChunk], lines: int) -> int:
    """Return how many bytes lie before the last `lines` lines; constant memory, whatever the log's length.

    A last line without its line feed counts as a line.
    """
    starts = deque([0], maxlen=lines + 1)  # where the newest lines begin
    length = 0
    for chunk in chunks:
        if chunk.stream == "note":
            continue  # ours, not the job's
        at = chunk.data.find(b"\n")
        while at >= 0:
            starts.append(length + at + 1)
            at = chunk.data.find(b"\n", at + 1)
        length += len(chunk.data)
    if lines == 0:
        return length
    if starts[-1] != length:  # the last line is not finished, and takes one place
        return starts[-min(lines, len(starts))]
    return starts[0]


def without(chunks: Iterable[LogChunk], skip: int) -> Iterator[LogChunk]:
    """Yield the chunks without their first `skip` bytes."""
    from dataclasses import replace

    for chunk in chunks:
        if not skip:
            yield chunk
        elif chunk.stream != "note":
            rest = chunk.data[skip:]
            skip = max(0, skip - len(chunk.data))
            if rest:
                yield replace(chunk, data=rest, text=rest.decode(errors="replace"))
