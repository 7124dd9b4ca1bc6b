"""The outputs of a script: the files that its order asks for, as one tar stream on the outputs port. This blocks."""

from __future__ import annotations

import os
import stat

from magpie_local.guest.agent.patterns import MAX_DEPTH, matches
from magpie_local.guest.agent.tar import Gone, Tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Most files, folders and links in one stream.
MAX_MEMBERS = 100_000
#: Most bytes of what the record says beside numbers: it is looked for in the log's last 4 KiB (engine.evidence).
_MAX_MISSED, _MAX_NOTE = 1500, 500
_ITEM = 6


class Full(Exception):
    """What was found does not fit into the stream any more."""


class Outputs:
    """Collects what some patterns match.

    Args:
        patterns: relative to `folder`, or absolute. One that matches a folder takes all that is in it.
        folder: the script's working directory.
        limit: most bytes of the stream, its end not counted.
    """

    def __init__(self, patterns: list[str], folder: str, limit: int) -> None:
        self._patterns = patterns
        self._folder = folder
        self._limit = limit
        self._names: set[str] = set()
        self._skipped: list[str] = []
        self._hurried = False

    def hurry(self) -> None:
        """Have `collect` end soon, from another thread."""
        self._hurried = True

    def collect(self, port: Callable[[], int]) -> dict[str, Any]:
        """Write the stream to `port`; return what the exit record says of it.

        Returns:
            files: regular files; bytes and crc: of the stream; missed: patterns that match nothing; truncated: not all
            that was found is there; note: what was left out and why, usually empty.
        """
        tar = None
        missed: list[str] = []
        note = ""
        try:
            fd = port()
            tar = Tar(fd, lambda: not self._hurried)
            try:
                note = self._take_all(tar, missed)
                tar.end()
            finally:
                os.close(fd)
        except Exception as error:  # how the script ended must be told, whatever happens here
            note = f"the outputs can't be sent: {error!r}"
            return _report(tar, missed, truncated=True, note=note)
        return _report(tar, missed, truncated=bool(note) or tar.broken, note=note or self._said())

    def _take_all(self, tar: Tar, missed: list[str]) -> str:
        """Write what the patterns match; return why that is not all."""
        try:
            missed += [pattern for pattern in self._patterns if not self._take(tar, pattern)]
        except Full as full:
            return str(full)
        return ""

    def _take(self, tar: Tar, pattern: str) -> bool:
        """Write what a pattern matches; return whether it matches anything."""
        found = False
        for path in matches(self._folder, pattern):
            found = True
            self._add(tar, path or ".", os.path.join("/" if pattern.startswith("/") else self._folder, path), 0)
        return found

    def _add(self, tar: Tar, name: str, path: str, depth: int) -> None:
        if name in self._names:
            return
        if self._hurried:
            raise Full("there was no time for all of them")
        try:
            self._add_member(tar, name, path, depth)
        except Gone as gone:
            self._skip(name, str(gone))

    def _add_member(self, tar: Tar, name: str, path: str, depth: int) -> None:
        info = _looked_at(path)
        if stat.S_ISDIR(info.st_mode):
            self._add_folder(tar, name, path, info, depth)
        elif stat.S_ISREG(info.st_mode):
            self._admit(name)
            self._settle(name, fits=tar.file(name, path, self._room(tar)))
        elif stat.S_ISLNK(info.st_mode):
            target = _target(path)
            if target.startswith("/") or not _stays(name, target):
                raise Gone(f"a link that leads to {target}")
            self._admit(name)
            self._settle(name, fits=tar.link(name, info, target, self._room(tar)))
        else:
            raise Gone("neither a file nor a folder")

    def _add_folder(self, tar: Tar, name: str, path: str, info: os.stat_result, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Gone(f"nested more than {MAX_DEPTH} deep")
        if name != ".":
            self._admit(name)
            self._settle(name, fits=tar.folder(name, info, self._room(tar)))
        for inside in _inside(path):
            self._add(tar, inside if name == "." else f"{name}/{inside}", f"{path}/{inside}", depth + 1)

    def _admit(self, name: str) -> None:
        if len(self._names) >= MAX_MEMBERS:
            raise Full(f"there are more than the {MAX_MEMBERS} files allowed: it ends before {name[:200]}")
        self._names.add(name)

    def _settle(self, name: str, *, fits: bool) -> None:
        if not fits:
            raise Full(f"there are more than the {self._limit} bytes allowed: it ends before {name[:200]}")

    def _room(self, tar: Tar) -> int:
        return self._limit - tar.size

    def _skip(self, name: str, reason: str) -> None:
        self._names.add(name)
        self._skipped.append(f"{name[:200]}: {reason[:200]}")

    def _said(self) -> str:
        if not self._skipped:
            return ""
        return f"{len(self._skipped)} left out: {'; '.join(self._skipped[:5])}"


def _looked_at(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise _gone(error) from None


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError as error:
        raise _gone(error) from None


def _inside(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise _gone(error) from None


def _gone(error: OSError) -> Gone:
    return Gone(os.strerror(error.errno or 0))


def _stays(name: str, target: str) -> bool:
    """Return whether a relative link at `name` leads to a place in the same tree, by the words alone."""
    depth = name.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return False
    return True


def _report(tar: Tar | None, missed: list[str], *, truncated: bool, note: str) -> dict[str, Any]:
    told: list[str] = []
    room = _MAX_MISSED
    for pattern in missed:
        room -= len(pattern.encode()) + _ITEM
        if room < 0:
            note = f"{len(missed) - len(told)} more patterns match nothing; {note}".removesuffix("; ")
            break
        told.append(pattern)
    files, size, crc = (0, 0, 0) if tar is None else (tar.files, tar.size, tar.crc)
    text = note.encode(errors="backslashreplace")[:_MAX_NOTE].decode(errors="ignore")
    return {"files": files, "bytes": size, "crc": crc, "missed": told, "truncated": truncated, "note": text}
