"""The output of a command in a VM, printed by its own cell.

It comes on the engine's thread. What another thread prints goes to some cell that happens to be known there, or to
none; so that thread only collects, and the cell's own prints, in few messages.
"""

from __future__ import annotations

import codecs
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from magpie_local import LogChunk
from notebook_ext.interrupts import Presses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.api.models import ExecResult
    from notebook_ext.printing import Printer
    from notebook_ext.session import Session

#: Seconds between two looks at the interrupts, and between two messages to the front end.
_TICK, _PACE = 0.05, 0.11


class Relay:
    """Runs commands in VMs for the cell that runs now.

    Args:
        session: whom to ask.
        printer: what prints their output.
    """

    def __init__(self, session: Session, printer: Printer) -> None:
        self._session = session
        self._printer = printer
        self._chunks: deque[LogChunk] = deque()
        # A piece of output may end within a character.
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: make("replace") for stream in ("stdout", "stderr")}

    def exec(self, job_id: str, command: Sequence[str], **options: Any) -> ExecResult:
        """Run a command as `jobs.exec` does, and print what it says as it says it; an interrupt ends it.

        Raises:
            KeyboardInterrupt: the user has ended it.
            MagpieError: as `jobs.exec`.
        """
        work = self._session.behind.jobs.exec(job_id, command, on_output=self._collect, **options)
        with Presses() as presses:
            running = self._session.worker.submit(work)
            ended = threading.Event()
            running.add_done_callback(lambda _: ended.set())
            wrote_at = 0.0
            while not ended.wait(_TICK):
                if presses.count:
                    running.cancel()
                    raise KeyboardInterrupt
                if self._chunks and time.monotonic() - wrote_at >= _PACE:
                    self._print()
                    wrote_at = time.monotonic()
        self._print()
        return running.result()

    def _collect(self, stream: str, data: bytes) -> None:
        text = self._decoders[stream].decode(data)
        self._chunks.append(LogChunk(time=0.0, stream=stream, data=data, text=text))

    def _print(self) -> None:
        self._printer.write([self._chunks.popleft() for _ in range(len(self._chunks))])
