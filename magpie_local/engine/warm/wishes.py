"""Shapes that somebody wants a template of: a file each, so that a wish outlives the process that had it.

TEMPLATES/.wanted/SHAPE      an empty file
TEMPLATES/.failed/SHAPE      why the last try went wrong; its time is the file's
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from magpie_local.domain.shape import Shape, parse_shape
from magpie_local.engine.files import private_folder
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds for which a shape whose template could not be made is not tried again by itself.
PATIENCE = 600.0


class Wishes:
    """The wishes of one state directory; any process may have one, the leader grants them."""

    def __init__(self, templates: Path) -> None:
        self._wanted = templates / ".wanted"
        self._failed = templates / ".failed"

    def add(self, shape: Shape) -> None:
        """Leave a wish; the failure of an earlier one is forgotten."""
        (self._failed / str(shape)).unlink(missing_ok=True)
        private_folder(self._wanted)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._wanted / str(shape), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def all(self) -> list[Shape]:
        """Return what is wanted and not granted yet."""
        try:
            names = sorted(os.listdir(self._wanted))
        except FileNotFoundError:
            return []
        shapes = []
        for name in names:
            with contextlib.suppress(InvalidInput):
                shapes.append(parse_shape("shape", name))
        return shapes

    def grant(self, shape: Shape) -> None:
        """Take a wish back: it is fulfilled, or can't be."""
        (self._wanted / str(shape)).unlink(missing_ok=True)

    def refuse(self, shape: Shape, reason: str) -> None:
        """Take a wish back, and say why it can't be fulfilled."""
        with contextlib.suppress(OSError):  # on a full disk the log alone has the reason
            private_folder(self._failed)
            (self._failed / str(shape)).write_text(reason)
        self.grant(shape)

    def refusal(self, shape: Shape, *, now: float | None = None) -> str | None:
        """Return why the last wish was refused, if none was left since.

        With `now` (wall clock) only where that was within PATIENCE: one from the future counts as an old one.
        """
        path = self._failed / str(shape)
        try:
            recent = now is None or 0 <= now - path.stat().st_mtime < PATIENCE
            return path.read_text() if recent else None
        except OSError:
            return None
