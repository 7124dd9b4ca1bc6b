"""Whether the kernel hears what is clicked: while a cell blocks it, it does not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: Seconds for which a kernel may be busy before that is worth a word.
_PATIENCE = 0.5


class Hearing:
    """Knows whether a cell runs, and finds out whether it blocks the kernel's loop: one that awaits does not.

    Args:
        shell: of the kernel. The cell that runs counts as just begun.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._since: float | None = time.monotonic()
        #: When the loop was last asked for a sign of life, as long as it has given none.
        self._asked: float | None = None
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)

    def close(self) -> None:
        """Listen no more."""
        self._shell.events.unregister("pre_run_cell", self._begin)
        self._shell.events.unregister("post_run_cell", self._end)

    def is_blocked(self) -> bool:
        """Return whether a cell has kept the kernel from listening for a while; asked again and again, it finds out."""
        now, since = time.monotonic(), self._since
        if since is None:
            self._asked = None
            return False
        loop: Any = getattr(getattr(self._shell, "kernel", None), "io_loop", None)
        if loop is None:
            return now - since > _PATIENCE
        asked = self._asked  # the answer may come on the kernel's thread at any moment
        if asked is None:
            self._asked = now
            loop.add_callback(self._answer)
            return False
        return now - asked > _PATIENCE

    def _answer(self) -> None:
        self._asked = None

    def _begin(self, _info: object) -> None:
        if threading.current_thread() is threading.main_thread():  # cells of subshells block nobody else
            self._since = time.monotonic()

    def _end(self, _result: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self._since = None
