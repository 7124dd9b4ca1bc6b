"""Files that a job's guest hands over at its script's end: unpacked before the end is told, with all distrust."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from magpie_local.engine.unpacking import unpack
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.exitrecord import OutputsRecord
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger

#: Seconds for the stream to reach its file after the agent told of its end, and between two looks.
_PATIENCE, _LOOK = 10.0, 0.01
_SHOWN = 5


async def collect(ports: Ports, ledger: Ledger, files: AttemptFiles, record: OutputsRecord) -> None:
    """Make the job's outputs folder of what its guest has handed over; tell in the story what is missing.

    Whatever is wrong with them never changes how the job ended.
    """
    notes = [f"no file matches {pattern}" for pattern in record.missed]
    notes += [record.note] if record.note else []
    target = ports.layout.collected(ledger.job.id)
    try:
        await _arrived(files.outputs, record.size)
        # A second look at the same attempt, after a crash in the middle.
        await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        limit = ledger.job.outputs_limit
        unpacked = await asyncio.to_thread(
            unpack, files.outputs, target, size=record.size, crc=record.crc, max_size=limit
        )  # fmt: skip
        notes += unpacked.notes
    except MagpieError as error:
        notes.append(f"the outputs are not there: {error.message}")
    for note in notes[:_SHOWN]:
        await ledger.note(f"outputs: {note}")
    if len(notes) > _SHOWN:
        await ledger.note(f"outputs: {len(notes) - _SHOWN} more notes of that kind")


async def _arrived(stream: Path, size: int) -> None:
    """Return when a file has so many bytes, or time is over: they take another way through QEMU than the log's."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _PATIENCE
    while True:
        if _size(stream) >= size or loop.time() >= give_up:
            return
        await asyncio.sleep(_LOOK)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
