"""What all widgets of a kernel share, and how one gives way to HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from magpie_local import MagpieError
from notebook_ext.widgets import controls
from notebook_ext.widgets.hearing import Hearing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from IPython.core.interactiveshell import InteractiveShell

    from notebook_ext.frontend import Place
    from notebook_ext.worker import Worker

T = TypeVar("T")
#: Seconds that a cell waits for what its widget begins with.
_PATIENCE = 10.0


class Shown(Protocol):
    """A widget that can be displayed."""

    @property
    def model_id(self) -> str:
        """Its id in the front end."""

    @property
    def view(self) -> dict[str, Any]:
        """What a front end needs to draw it."""

    def begin(self) -> None:
        """Begin to be brought up to date; beginning twice is beginning once."""

    def settle(self, place: Place) -> None:
        """Say that it stands in `place`, which it is to leave to HTML in the end; on the worker's thread."""


class Host:
    """The thread behind the widgets, the kernel's ear, and the user's settings.

    Args:
        shell: of the kernel.
        magics: whose settings count.
    """

    def __init__(self, shell: InteractiveShell, magics: Any) -> None:
        self.worker: Worker = magics.session.worker
        self.hearing = Hearing(shell)
        self._magics = magics

    @property
    def asks(self) -> bool:
        """Whether Stop asks once more."""
        return bool(self._magics.confirm_stop)

    @property
    def lines(self) -> int:
        """Lines of output that a widget shows."""
        return int(self._magics.tail_lines)

    def fetch(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` does on the worker's loop; for the cell's thread, before a widget is shown."""
        return self.worker.submit(work).result(_PATIENCE)

    def ask(self, work: Coroutine[Any, Any, object], failed: Callable[[str], None]) -> None:
        """Have `work` done, and whoever asks told what went wrong, on the worker's thread."""

        async def carry_out() -> None:
            try:
                await work
            except MagpieError as error:
                failed(str(error))

        self.worker.submit(carry_out())

    def close(self) -> None:
        """Let go of the shell."""
        self.hearing.close()


class GivingWay:
    """A widget that is replaced by HTML when it has ended, in the notebook that is saved as well.

    Args:
        box: the widget.
    """

    def __init__(self, box: Any) -> None:
        self._box = box
        self._place: Place | None = None
        self._last: dict[str, str] | None = None

    @property
    def model_id(self) -> str:
        """Its id in the front end."""
        return str(self.view["model_id"])

    @property
    def view(self) -> dict[str, Any]:
        """What a front end needs to draw it."""
        return {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}

    def settle(self, place: Place) -> None:
        """Say that it stands in `place`; on the worker's thread."""
        self._place = place
        if self._last is not None:
            self._give_way(self._last)

    def leave(self, bundle: dict[str, str]) -> None:
        """End, and leave `bundle` in its place; on the worker's thread."""
        self._last = bundle
        self._give_way(bundle)

    def _give_way(self, bundle: dict[str, str]) -> None:
        if self._place is not None:
            self._place.show(bundle)
        # A view that was given to somebody else, or stands in a page that was loaded again and no longer knows which
        # output is ours, can't be taken away: it shows the HTML itself.
        if self._place is None or self._box.was_asked_for:
            controls.leave(self._box, bundle["text/html"])
        else:
            controls.close(self._box)
