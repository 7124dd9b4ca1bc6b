"""A job as HTML and text in one output of the notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.view.job_html import job_html, job_text
from notebook_ext.frontend import Place

if TYPE_CHECKING:
    from magpie_local.view.snapshot import Snapshot


def bundle(snapshot: Snapshot) -> dict[str, str]:
    """Return a job by MIME type."""
    return {"text/plain": job_text(snapshot), "text/html": job_html(snapshot)}


class Page:
    """Shows a job in an output that is written again and again; for front ends without widgets."""

    def __init__(self) -> None:
        self._place = Place()

    def show(self, snapshot: Snapshot) -> int:
        """Show a job as it is now; returns how many characters that took."""
        shown = bundle(snapshot)
        self._place.show(shown)
        return sum(map(len, shown.values()))

    def end(self, snapshot: Snapshot) -> None:
        """Show it as it has ended."""
        self.show(snapshot)
