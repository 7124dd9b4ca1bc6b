"""What a pattern for files matches: `*`, `?` and `[...]` within a name, `**` for any number of folders.

As in a shell, a name that begins with a dot is meant only where it is written out, or lies in a folder that is. Made
here because `glob` and `fnmatch` compile to `re`, whose import alone takes an emulated guest a third of a second.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Deepest nesting of folders that is looked into.
MAX_DEPTH = 128


def matches(folder: str, pattern: str) -> Iterator[str]:
    """Yield the paths below `folder` (`/` for an absolute pattern) that a pattern matches, as it writes them.

    Links are followed only where the pattern names them. A pattern with `..` matches nothing.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        return
    if pattern.startswith("/"):
        folder = "/"
    yield from _matches(folder, "", parts, 0)


def fits(name: str, pattern: str) -> bool:
    """Return whether a name fits a part of a pattern."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return _fits(name, pattern)


def _matches(folder: str, path: str, parts: list[str], depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    if not parts:
        yield path
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _anywhere(folder, path, rest, depth)
    elif not _is_pattern(part):
        if os.path.lexists(_joined(folder, path, part)):
            yield from _matches(folder, _below(path, part), rest, depth + 1)
    else:
        for entry in _entries(folder, path):
            if fits(entry.name, part) and (not rest or entry.is_dir(follow_symlinks=False)):
                yield from _matches(folder, _below(path, entry.name), rest, depth + 1)


def _anywhere(folder: str, path: str, rest: list[str], depth: int) -> Iterator[str]:
    """Yield what `rest` matches here and in all folders below; all that is here and below where there is no rest."""
    if rest:
        yield from _matches(folder, path, rest, depth)
    for entry in _entries(folder, path):
        if entry.name.startswith("."):
            continue
        inside = _below(path, entry.name)
        if not rest:
            yield inside
        if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
            yield from _anywhere(folder, inside, rest, depth + 1)


def _entries(folder: str, path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(_joined(folder, path)) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _joined(folder: str, *parts: str) -> str:
    return os.path.join(folder, *filter(None, parts))


def _is_pattern(part: str) -> bool:
    return any(character in part for character in "*?[")


def _fits(name: str, pattern: str) -> bool:
    """Match a whole name; after a mismatch go back to the last `*` only, which is enough, and never slow."""
    at = place = 0
    star, resume = -1, 0
    while at < len(name):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
            continue
        size = _fits_one(name[at], pattern, place)
        if size:
            at, place = at + 1, place + size
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return pattern[place:].strip("*") == ""


def _fits_one(character: str, pattern: str, place: int) -> int:
    """Return how much of the pattern at `place` one character fits: 0 where it does not."""
    if place >= len(pattern):
        return 0
    if pattern[place] == "?":
        return 1
    end = pattern.find("]", place + 2 + pattern.startswith("!", place + 1))
    if pattern[place] != "[" or end < 0:
        return int(pattern[place] == character)
    inside = pattern[place + 1 : end]
    negated = inside.startswith("!")
    return end + 1 - place if _in_set(character, inside[negated:]) != negated else 0


def _in_set(character: str, inside: str) -> bool:
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            if inside[at] <= character <= inside[at + 2]:
                return True
            at += 3
        else:
            if inside[at] == character:
                return True
            at += 1
    return False
