"""Secrets in a stream, found wherever they are cut, and replaced."""

from __future__ import annotations

from magpie_local.guest.agent.unfolding import Unfolded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = b"***"
#: Most bytes of what may be the beginning of a secret that are shown when nothing follows for a while.
HARMLESS = 3


class Masking:
    """Replaces each occurrence of some byte strings in one stream; those that overlap are one.

    Only what may be the beginning of one is held back: less than the longest of them, with its line breaks.

    Args:
        forms: the byte strings; none is empty.
        foldable: those of them that are also found where a line break (one, LF or CRLF) stands between any two of
            their bytes; they hold none themselves.
    """

    def __init__(self, forms: list[bytes], foldable: Iterable[bytes] = ()) -> None:
        self._foldable = list(foldable)
        self._forms = [form for form in forms if form not in self._foldable]
        #: Most bytes that the beginning of a folded one can take.
        self._reach = 3 * max(map(len, self._foldable), default=0)
        #: The end of the stream as far as an occurrence may begin in it.
        self._tail = b""
        #: How much of the tail has been given out, and how much of it a mask stands for.
        self._done = self._covered = 0

    @property
    def holds(self) -> bool:
        """Whether bytes are held back that `release` would give out."""
        return self._done < len(self._tail) and len(self._tail.rstrip(b"\r\n")) <= HARMLESS

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what can be shown now."""
        self._tail += data
        return self._given(self._open(self._tail))

    def release(self) -> bytes:
        """Return what is held back, where that is too little to tell anything.

        The stream has paused, maybe behind a prompt. Should a secret have begun there all the same, its rest is
        masked.
        """
        if not self.holds:
            return b""
        shown, self._done = self._tail[self._done :], len(self._tail)
        return shown

    def finish(self) -> bytes:
        """Return the rest; the stream has ended."""
        return self._given(len(self._tail))

    def _given(self, limit: int) -> bytes:
        """Give out what stands before `limit`, where the first occurrence may begin that is not yet whole."""
        tail, parts = self._tail, []
        for start, end in sorted(self._found()):
            if start >= limit:
                break
            if end <= self._done:
                continue  # it was seen before
            if start >= self._covered:
                parts += [tail[self._done : start], MASK]
            self._covered = self._done = end
        parts.append(tail[self._done : limit])
        self._done = max(self._done, limit)
        self._tail = tail[limit:]
        self._done -= limit
        self._covered = max(0, self._covered - limit)
        return b"".join(parts)

    def _found(self) -> Iterator[tuple[int, int]]:
        yield from _spans(self._tail, self._forms)
        if self._foldable:
            flat = Unfolded(self._tail)
            yield from flat.places(_spans(flat.text, self._foldable))

    def _open(self, tail: bytes) -> int:
        """Return the place of the first end of `tail` that a form begins with; its length where there is none."""
        found = min((_open(tail, form) for form in self._forms), default=len(tail))
        if self._foldable:
            found = min(found, self._open_folded(tail))
        return found

    def _open_folded(self, tail: bytes) -> int:
        begin = max(0, len(tail) - self._reach)
        # A CR at the end may be half of a line break.
        flat = Unfolded(tail[begin:].removesuffix(b"\r"))
        place = min(_open(flat.text, form) for form in self._foldable)
        if place == len(flat.text):
            return len(tail)
        ((start, _),) = flat.places([(place, len(flat.text))])
        return begin + start


def _spans(text: bytes, forms: list[bytes]) -> Iterator[tuple[int, int]]:
    for form in forms:
        at = text.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = text.find(form, at + 1)


def _open(tail: bytes, form: bytes) -> int:
    beginning = form[: HARMLESS + 1]
    at = tail.find(beginning, max(0, len(tail) - len(form) + 1))
    while at >= 0:
        if form.startswith(tail[at:]):
            return at
        at = tail.find(beginning, at + 1)
    for size in range(min(HARMLESS, len(tail), len(form) - 1), 0, -1):
        if tail.endswith(form[:size]):
            return len(tail) - size
    return len(tail)
