"""What an attempt's files prove, read at a constant cost whatever the log's size."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from magpie_local.domain.exitrecord import ExitRecord, HaltRecord, parse_exit, parse_halt
from magpie_local.domain.frames import EXIT, HALT, LOG_HEADER, STARTED, FrameError, LogReader, unpack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from magpie_local.domain.layout import AttemptFiles

T = TypeVar("T")

#: Time for the exit record to reach the file after the agent told of it, seconds.
_LAST_WORDS = 2.0
_HEAD = 64 * 1024
_TAIL = 4 * 1024
_CONSOLE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of an attempt without asking its VM."""

    #: The agent began the script (its first log frame says so, and is written before the script runs).
    started: bool
    #: The agent's exit record, where it is whole and carries this attempt's nonce.
    exit: ExitRecord | None
    #: How a guest that was told to end did, likewise.
    halt: HaltRecord | None
    #: The guest kernel's last words on its console.
    panicked: bool
    powered_off: bool
    log_size: int


def gather(files: AttemptFiles, nonce: str) -> Evidence:
    """Read the evidence. Missing files prove nothing; this never raises for their content."""
    size, head, tail = _ends(files.log, _HEAD, _TAIL)
    _, _, console = _ends(files.console, 0, _CONSOLE)
    halt, tail = _last(tail, HALT, parse_halt, nonce)
    return Evidence(
        started=_started(head, nonce),
        exit=_exit(tail, nonce),
        halt=halt,
        panicked=b"Kernel panic" in console,
        powered_off=b"Power down" in console,
        log_size=size,
    )


async def last_words(look: Callable[[], Awaitable[Evidence]]) -> Evidence:
    """Return the evidence of a script whose end the agent has told of: the record takes another way through QEMU."""
    give_up = time.monotonic() + _LAST_WORDS
    while True:
        evidence = await look()
        if evidence.exit is not None or time.monotonic() >= give_up:
            return evidence
        await asyncio.sleep(0.01)


def secure(path: Path) -> None:
    """Flush a file to the disk, so that a final state never points at a log that a power cut takes away."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _ends(path: Path, head: int, tail: int) -> tuple[int, bytes, bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0, b"", b""
    try:
        size = os.fstat(fd).st_size
        return size, os.pread(fd, head, 0), os.pread(fd, tail, max(0, size - tail))
    finally:
        os.close(fd)


def _started(head: bytes, nonce: str) -> bool:
    try:
        frames = LogReader().feed(head)
    except FrameError:
        return False
    return any(kind == STARTED and _nonce_of(payload) == nonce for kind, _, payload in frames)


def _nonce_of(payload: bytes) -> object:
    try:
        return unpack(payload).get("nonce")
    except FrameError:
        return None


def _exit(tail: bytes, nonce: str) -> ExitRecord | None:
    return _last(tail, EXIT, parse_exit, nonce)[0]


def _last(tail: bytes, wanted: int, parse: Callable[[bytes, str], T | None], nonce: str) -> tuple[T | None, bytes]:
    """Return what the last frame says, if it is of that kind, and what comes before it.

    It is the one whose header's length ends exactly at the end of the file. Output that happens to look like one
    lacks the nonce.
    """
    for at in range(len(tail) - LOG_HEADER.size, -1, -1):
        length, kind, _ = LOG_HEADER.unpack_from(tail, at)
        if kind == wanted and at + LOG_HEADER.size + length == len(tail):
            record = parse(tail[at + LOG_HEADER.size :], nonce)
            if record is not None:
                return record, tail[:at]
    return None, tail
