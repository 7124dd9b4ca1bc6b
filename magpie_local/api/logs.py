"""Reading a job's log: whole, its end, or as it grows. Whoever asks reads the file: no reader slows the job (F88)."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
from typing import TYPE_CHECKING

from magpie_local.api.models import LogChunk
from magpie_local.domain.frames import EXIT, GAP, GAP_PAYLOAD, NOTE, STARTED, STDERR, STDOUT, FrameError, LogReader
from magpie_local.domain.sizes import format_bytes
from magpie_local.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.engine import Engine

#: How often a follower looks at the file's size, seconds. Half of the promised latency at the 95th percentile, less
#: scheduling.
_LOOK = 0.02
#: The first look comes sooner, and each takes a tenth longer: a forked job's first line is a matter of milliseconds.
_FIRST_LOOK = 0.002
_BLOCK = 1024 * 1024

_STREAMS = {STDOUT: "stdout", STDERR: "stderr", GAP: "note", NOTE: "note"}


class LogFile:
    """An incremental reader of one attempt's log.

    `ended` becomes true at the exit record: nothing comes after it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._offset = 0
        self._frames = LogReader()
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in (STDOUT, STDERR)}
        self.started = False
        self.ended = False

    def read(self) -> list[LogChunk]:
        """Return what has come since the last call, at most about 1 MiB; blocking, but of local files only."""
        if self._fd is None:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return []
        data = os.pread(self._fd, _BLOCK, self._offset)
        self._offset += len(data)
        try:
            frames = self._frames.feed(data)
        except FrameError:
            self.ended = True  # the guest broke its own log: what came before stands
            return []
        chunks = (self._chunk(*frame) for frame in frames)
        return [chunk for chunk in chunks if chunk is not None]

    def grown(self) -> bool:
        """Whether there is more to read."""
        with contextlib.suppress(OSError):
            size = os.fstat(self._fd).st_size if self._fd is not None else self._path.stat().st_size
            return size > self._offset
        return False

    def close(self) -> None:
        """Close the file; closing twice is nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _chunk(self, kind: int, time_us: int, payload: bytes) -> LogChunk | None:
        self.started = self.started or kind == STARTED
        self.ended = self.ended or kind == EXIT
        if kind not in _STREAMS:
            return None
        if kind in self._decoders:
            text = self._decoders[kind].decode(payload)
        else:
            text = _gap_text(payload) if kind == GAP else payload.decode(errors="replace")
        return LogChunk(time=time_us / 1e6, stream=_STREAMS[kind], data=payload, text=text)


class LogService:
    """Logs of the jobs of one engine's state directory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def text(self, job_id: JobId, tail: int | None) -> str:
        """Return all output so far as text, or its last `tail` lines."""
        job = await self._job(job_id)
        return await asyncio.to_thread(_read_text, self._path(job), tail)

    async def follow(self, job_id: JobId, *, follow: bool = True) -> AsyncGenerator[list[LogChunk], None]:
        """Yield the output in batches: what there is, then what comes, until the script's end."""
        log: LogFile | None = None
        try:
            while True:
                job = await self._job(job_id)
                if job.attempt == 0 and not job.script_state.is_final:
                    if not follow:
                        return
                    await self._engine.bell.wait(self._engine.bell.listen(), 0.1)
                    continue
                log = LogFile(self._path(job))
                async for batch in self._follow_file(log, job, follow=follow):
                    yield batch
                if log.started or not follow or (await self._job(job_id)).script_state.is_final:
                    return
                log.close()
        finally:
            if log is not None:
                log.close()

    async def _follow_file(self, log: LogFile, job: JobRecord, *, follow: bool) -> AsyncGenerator[list[LogChunk], None]:
        """Yield one attempt's output; returns at its end, or when another attempt has begun."""
        looks, pause = 0, _FIRST_LOOK
        while not log.ended:
            # The state is read before the file: output that came before a final state is then never missed.
            current = await self._job(job.id) if looks % 10 == 0 else job
            grown = log.grown()
            if grown and (batch := await asyncio.to_thread(log.read)):
                yield batch
            elif not follow or current.script_state.is_final or current.attempt != job.attempt:
                if not grown:
                    return
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 1.1, _LOOK)
            looks += 1

    async def _job(self, job_id: JobId) -> JobRecord:
        job = await self._engine.ports.jobs.get(job_id)
        if job is None:
            raise JobNotFound(f"There is no job {job_id}.")
        return job

    def _path(self, job: JobRecord) -> Path:
        return self._engine.ports.layout.attempt(job.id, max(1, job.attempt)).log


def _read_text(path: Path, tail: int | None) -> str:
    log = LogFile(path)
    parts: list[str] = []
    try:
        while log.grown():
            parts += [chunk.text for chunk in log.read()]
    finally:
        log.close()
    text = "".join(parts)
    if tail is None:
        return text
    # As in a terminal: str.splitlines() would end a line at form feeds and other odd characters too.
    lines = io.StringIO(text, newline="\n").readlines()
    return "".join(lines[max(0, len(lines) - tail) :])


def _gap_text(payload: bytes) -> str:
    try:
        (dropped,) = GAP_PAYLOAD.unpack(payload)
    except ValueError:
        return "\n[output was dropped here]\n"
    return f"\n[{format_bytes(dropped)} of output were dropped here: the log's limit was reached]\n"
