"""Text without the line breaks that a program such as `base64` has put into it, and the way back to where it stood."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What `_marked` leaves in the place of a line break that folds.
_BREAKS = b"\0\n"


class Unfolded:
    """Text without its single line breaks (LF or CRLF); several in a row separate, and stay.

    Args:
        raw: the text.
    """

    def __init__(self, raw: bytes) -> None:
        self._marked = _marked(raw) if b"\n" in raw else None
        #: Before which bytes of the text something was taken out.
        self._cuts: list[int] = []
        self.text = raw if self._marked is None else self._marked.translate(None, _BREAKS)

    def places(self, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield where stretches (first byte, behind the last) of the text stand in the raw one."""
        cuts = self._cuts
        for start, end in spans:
            if not cuts:
                cuts = self._cuts = self._found_cuts()
            before = bisect_right(cuts, start)
            yield start + before, end + bisect_right(cuts, end - 1, before)

    def _found_cuts(self) -> list[int]:
        if self._marked is None:
            return [len(self.text)]
        return list(accumulate(map(len, self._marked.replace(b"\0", b"\n").split(b"\n"))))


def _marked(raw: bytes) -> bytes:
    """Return a text of the same length in which NUL and LF stand for single line breaks, and for nothing else.

    Of several in a row at least one becomes blanks, which are in no form that is looked for.
    """
    if b"\0" in raw:
        raw = raw.replace(b"\0", b" ")
    return raw.replace(b"\r\n", b"\0\n").replace(b"\n\n", b"  ").replace(b"\n\0\n", b"   ")
