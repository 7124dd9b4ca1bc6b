"""The Stop button: asks once more where that is wished, and says where the kernel can't hear it."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

from magpie_local.view.plain import one_line
from notebook_ext.widgets import controls

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from notebook_ext.widgets.host import Host

#: Seconds for which a button that asks waits for an answer.
_ASKS = 5.0
_WIDTH = 300
_TOOLTIP = "Stop the job: SIGTERM, a grace period, then the end of its VM"
_DEAF = (
    "A running cell blocks the kernel, which hears Stop when that cell has ended: the notebook's own interrupt (■ in "
    "its toolbar) ends that cell first."
)


class StopButton:
    """A button, and a place for words beside it.

    Args:
        host: what all widgets share.
        stop: asks for the stop.
    """

    def __init__(self, host: Host, stop: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.button = controls.button("Stop", _TOOLTIP, lambda: host.worker.call(self._click))
        self.note = controls.html()
        self._host = host
        self._stop = stop
        self._asked_at: float | None = None
        self._sent = False
        self._error = ""

    def look(self) -> None:
        """Bring it up to date; on the worker's thread, at least once a second."""
        if self._asked_at is not None and time.monotonic() - self._asked_at > _ASKS:
            self.reset()
        deaf = _DEAF if not self._sent and self._host.hearing.is_blocked() else ""
        self._say(deaf or self._error)

    def reset(self) -> None:
        """Forget what was clicked: it is about something else now, or was long ago."""
        self._asked_at, self._sent, self._error = None, False, ""
        self._draw("Stop")

    def _click(self) -> None:
        if self._sent:
            return
        if self._host.asks and self._asked_at is None:
            self._asked_at = time.monotonic()
            self._draw("Stop: sure?")
            return
        self._asked_at, self._sent = None, True
        self._draw("Stopping")
        self._say("asked to stop")
        self._host.ask(self._stop(), self._failed)

    def _failed(self, why: str) -> None:
        self.reset()
        self._error = why
        self._say(why)

    def _draw(self, text: str) -> None:
        self.button.description = text
        self.button.disabled = self._sent
        self.button.button_style = "danger" if self._asked_at is not None else ""

    def _say(self, text: str) -> None:
        controls.write(self.note, f"<span role='status'>{escape(one_line(text, _WIDTH))}</span>" if text else "")
