"""A job's output on our own streams: the bytes as they are, at once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from magpie_local.cli import render

if TYPE_CHECKING:
    from magpie_local import LogChunk


def write(chunk: LogChunk) -> None:
    """Write output to the stream it belongs to; our own notes about it go to stderr."""
    stream = sys.stdout if chunk.stream == "stdout" else sys.stderr
    stream.buffer.write(chunk.text.encode() if chunk.stream == "note" else chunk.data)
    stream.buffer.flush()


def write_json(chunk: LogChunk) -> None:
    """Write one line of JSON."""
    click.echo(json.dumps(render.log_json(chunk)))
