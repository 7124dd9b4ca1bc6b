"""Jobs behind their cells: each has one display that goes on where it began, whatever the kernel does meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notebook_ext import hook
from notebook_ext.display import Page
from notebook_ext.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job
    from notebook_ext.session import Session


class Background:
    """Shows a job in a display that is updated until it ends: a widget where there can be one, else HTML.

    Args:
        session: whom to ask.
        lines: of output shown.
        live: whether the display changes before the job's end.
        changed: told of the job when it has ended, on another thread; returns what is to be said of that.
    """

    def __init__(
        self, session: Session, *, lines: int, live: bool, changed: Callable[[Job], str | None] = lambda _job: None
    ) -> None:
        self._session = session
        self._lines = lines
        self._live = live
        self._changed = changed

    def show(self, job: Job) -> None:
        """Show it; returns at once."""
        source = self._session.behind
        watch = Watch(source, job, lines=self._lines, live=self._live, changed=self._changed)
        loaded = hook.loaded()
        if loaded is not None and loaded.can_show:
            loaded.show_job(source, watch)
            return
        page = Page()
        page.show(watch.look())
        self._session.worker.submit(watch.run(page))
