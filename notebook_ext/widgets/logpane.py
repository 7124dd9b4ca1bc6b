"""The end of a job's output in its widget: searched, held still, or shown from its beginning."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from magpie_local.view.job_html import foot_html, pane_html
from magpie_local.view.log_html import BUDGET, line_text, log_html
from magpie_local.view.logtail import LogTail
from magpie_local.view.plain import one_line
from notebook_ext.widgets import controls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from magpie_local import LogChunk
    from magpie_local.view.logtail import Line
    from magpie_local.view.snapshot import Snapshot
    from notebook_ext.widgets.host import Host

#: Lines and bytes of a log that is opened whole; of a longer one the end is shown.
_LINES, _BYTES = 10_000, 500_000
_WIDTH = 60
_OPEN, _CLOSE = "Open full log", "Close full log"


class LogPane:
    """The output, and the controls that say what of it is shown.

    Args:
        host: what all widgets share.
        read: yields the output so far.
        wake: has `show` called soon.
    """

    def __init__(self, host: Host, read: Callable[[], AsyncIterator[LogChunk]], wake: Callable[[], None]) -> None:
        call = host.worker.call
        self.search = controls.field(
            "Search the log",
            "Search the log: lines that contain this are shown",
            lambda text: call(self._look_for, text),
        )
        self.follow = controls.toggle(
            "Follow", "Go on with the output; released, it stands still", lambda on: call(self._hold, on), value=True
        )
        self.whole = controls.button(_OPEN, "Show the log from its beginning", lambda: call(self._open_or_close))
        self.lines, self.foot = controls.html(), controls.html()
        self._host, self._read, self._wake = host, read, wake
        self._wanted = ""
        self._is_held = False
        #: What stands still: lines, and how many came before them.
        self._kept: tuple[tuple[Line, ...], int] | None = None
        self._is_whole = False
        self._key: object = None
        self._error = ""

    def show(self, snapshot: Snapshot) -> int:
        """Bring it up to date; returns how many characters that takes."""
        if self._is_held and self._kept is None:
            self._kept = snapshot.lines, snapshot.dropped
        lines, before = self._kept or (snapshot.lines, snapshot.dropped)
        new = snapshot.dropped + len(snapshot.lines) - before - len(lines)
        key = (lines, before, self._wanted, self._kept is None, self._is_whole, new, snapshot.ssh, self._error)
        if key == self._key:
            return 0
        self._key = key
        found = [line for line in lines if self._wanted.casefold() in line_text(line).casefold()]
        log = log_html(found, _BYTES if self._is_whole else BUDGET)
        sent = controls.write(self.lines, pane_html(snapshot.job, log))
        said = self._said(found, lines, log.count, before, new)
        is_usual = self._kept is None and not self._wanted
        known = replace(snapshot, dropped=0) if self._is_whole else snapshot
        foot = foot_html(known, log.count if is_usual else len(known.lines))
        return sent + controls.write(self.foot, said + foot)

    def _said(self, found: list[Line], lines: tuple[Line, ...], shown: int, before: int, new: int) -> str:
        """Return what there is to say of the lines shown: those found among `lines`, which others came before."""
        said = [self._error] if self._error else []
        if self._wanted:
            said.append(f"{len(found):,} of {len(lines):,} lines contain “{one_line(self._wanted, _WIDTH)}”")
        elif self._is_whole:
            said.append(f"{shown:,} of {before + len(lines):,} lines")
        if self._kept is not None:
            said.append(f"standing still: {max(0, new):,} new lines")
        return f"<div class='mf' role='status'><span>{escape(' · '.join(said))}</span></div>" if said else ""

    def _look_for(self, text: str) -> None:
        self._wanted = text.strip()
        self._wake()

    def _hold(self, follows: bool) -> None:
        self._is_held = not follows
        if not self._is_whole:
            self._kept = None  # what is there when it is shown next is kept then
        self._wake()

    def _open_or_close(self) -> None:
        if self._is_whole:
            self._is_whole, self._kept = False, None
            self._draw()
        else:
            self._host.ask(self._open(), self._failed)

    async def _open(self) -> None:
        tail = LogTail(_LINES)
        async for chunk in self._read():
            tail.feed(chunk)
        self._is_whole, self._kept, self._error = True, (tail.lines, tail.dropped), ""
        self._draw()

    def _failed(self, why: str) -> None:
        self._error = one_line(why, 300)
        self._wake()

    def _draw(self) -> None:
        self.whole.description = _CLOSE if self._is_whole else _OPEN
        self._wake()

    @property
    def parts(self) -> tuple[Any, ...]:
        """The controls, in the order of their use."""
        return self.search, self.follow, self.whole
