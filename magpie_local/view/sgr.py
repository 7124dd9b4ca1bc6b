"""The state of a terminal's text attributes, and what the sequence `ESC [ ... m` makes of it (ECMA-48, SGR)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from magpie_local.view.colours import RGB, indexed

if TYPE_CHECKING:
    from collections.abc import Sequence

BOLD, DIM, ITALIC, UNDERLINE, INVERSE, STRIKE = "bold", "dim", "italic", "underline", "inverse", "strike"

_ON = {1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE, 7: INVERSE, 9: STRIKE, 21: UNDERLINE}
_OFF = {22: {BOLD, DIM}, 23: {ITALIC}, 24: {UNDERLINE}, 27: {INVERSE}, 29: {STRIKE}}
#: Codes that are followed by a colour; of these the last is the underline's, which is read and left out.
_FOREGROUND, _BACKGROUND, _UNDERLINED = 38, 48, 58
#: The bases of the 8 colours and of their bright twins.
_BASES = {30: 0, 90: 8, 40: 0, 100: 8}


@dataclass(frozen=True, slots=True)
class Attributes:
    """How text looks. A colour is an index into the 16 of the palette, exact, or None for the page's own."""

    foreground: int | RGB | None = None
    background: int | RGB | None = None
    flags: frozenset[str] = frozenset()


PLAIN = Attributes()


@lru_cache(maxsize=512)
def applied(now: Attributes, parameters: str) -> Attributes:
    """Return the attributes after one sequence with these parameters (`1;38;5;208`); unknown ones change nothing."""
    groups = deque([_number(part) for part in group.split(":")] for group in parameters.split(";"))
    while groups:
        group = groups.popleft()
        code = group[0]
        if code in (_FOREGROUND, _BACKGROUND, _UNDERLINED):
            colour = _of_group(group) if len(group) > 1 else _of_following(groups)
            now = _coloured(now, code, colour)
        elif code == 4 and len(group) > 1 and group[1] == 0:
            now = replace(now, flags=now.flags - {UNDERLINE})
        else:
            now = _simple(now, code)
    return now


def _simple(now: Attributes, code: int) -> Attributes:
    if code == 0:
        return PLAIN
    if code in _ON:
        return replace(now, flags=now.flags | {_ON[code]})
    if code in _OFF:
        return replace(now, flags=now.flags - _OFF[code])
    if code == 39:
        return replace(now, foreground=None)
    if code == 49:
        return replace(now, background=None)
    base = code // 10 * 10
    if base not in _BASES or code - base > 7:
        return now
    colour = _BASES[base] + code - base
    return replace(now, foreground=colour) if base in (30, 90) else replace(now, background=colour)


def _coloured(now: Attributes, code: int, colour: int | RGB | None) -> Attributes:
    if colour is None or code == _UNDERLINED:
        return now
    return replace(now, foreground=colour) if code == _FOREGROUND else replace(now, background=colour)


def _of_following(groups: deque[list[int]]) -> int | RGB | None:
    """Return the colour of `5;N` or `2;R;G;B`, taken off the groups that follow."""
    if not groups:
        return None
    kind = groups.popleft()[0]
    taken = [groups.popleft()[0] for _ in range(min({5: 1, 2: 3}.get(kind, 0), len(groups)))]
    return _colour(kind, taken)


def _of_group(group: Sequence[int]) -> int | RGB | None:
    """Return the colour of `38:5:N`, `38:2:R:G:B` or `38:2:SPACE:R:G:B`."""
    kind, parts = group[1], group[2:]
    return _colour(kind, parts[1:4] if kind == 2 and len(parts) > 3 else parts[:3])


def _colour(kind: int, parts: Sequence[int]) -> int | RGB | None:
    if any(not 0 <= part <= 255 for part in parts):
        return None
    if kind == 5 and parts:
        return parts[0] if parts[0] < 16 else indexed(parts[0])
    if kind == 2 and len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return None


def _number(text: str) -> int:
    """Return a parameter; a missing one is 0, and one that no terminal has is -1."""
    if not text:
        return 0
    return int(text) if len(text) < 5 and text.isdecimal() else -1
