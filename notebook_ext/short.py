"""Errors in cells: one line or a few, never a traceback of ours."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from IPython.core.error import UsageError

from magpie_local import MagpieError

if TYPE_CHECKING:
    from collections.abc import Iterable

E = TypeVar("E", bound=BaseException)


class LeftRunning(MagpieError):
    """The cell was left; its job goes on."""

    code = "left_running"


def shortened(error: E) -> E:
    """Have IPython show an error by its words alone; also where a user's own code lets it pass."""
    # IPython looks for this name on the error itself; what it returns is shown in place of the traceback.
    error._render_traceback_ = lambda: [": ".join(filter(None, (type(error).__name__, str(error))))]  # type: ignore[attr-defined]
    return error


def usage(message: str) -> UsageError:
    """Return an error that IPython shows as one line."""
    return UsageError(message)


def unknown(noun: str, word: str, known: Iterable[str], cure: str = "") -> UsageError:
    """Return an error for a word that means nothing; names the nearest that does."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else f"; {cure}" if cure else ""
    return UsageError(f"{noun} {word!r} is unknown{hint}")
