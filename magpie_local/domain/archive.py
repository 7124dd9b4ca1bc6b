"""Tar streams from guests, read with mistrust, and what is packed for guests: pure, and a subset of POSIX.1-2001.

`tarfile` is not used on what a guest sent: its reader follows chains of headers without end, and takes whatever size
the guest announces into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from magpie_local.errors import InvalidInput, TransferRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCK = 512
#: Largest record of long names that is read, bytes; a path has at most 4,096.
_MAX_EXTENDED = 32 * 1024
_MAX_NAME, _MAX_PATH, _MAX_DEPTH = 255, 4096, 140
_CHUNK = 256 * 1024

Kind: TypeAlias = Literal["file", "folder", "link", "other"]
_KINDS: dict[bytes, Kind] = {b"0": "file", b"\0": "file", b"5": "folder", b"2": "link"}
_EXTENDED = b"x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a stream, as its writer describes it."""

    name: str
    kind: Kind
    #: Bytes of content; those of anything but a file are skipped.
    size: int
    mode: int
    #: Seconds since the epoch.
    mtime: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file or folder for a guest: made from bytes, or from what is at a place of this machine."""

    #: In the guest: absolute, or relative to the script's working directory; exactly this name.
    path: str
    content: bytes | None = field(default=None, repr=False)
    source: Path | None = None
    #: Permissions of what is made from bytes; what comes from this machine keeps its own.
    mode: int = 0o644


class TarReader:
    """Reads a stream member by member.

    Args:
        read: returns at most so many of the next bytes, none at the end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        #: Bytes of the present member that have not been read yet: content and filling.
        self._left = self._filling = 0

    def next(self) -> Member | None:
        """Return the next member, None at the stream's end; what is left of the one before is skipped.

        Raises:
            TransferRefused: this is no such stream, or it was cut short.
        """
        self._skip()
        block = self._block()
        if block.count(0) == BLOCK:
            return None
        records: dict[str, bytes] = {}
        if block[156:157] == _EXTENDED:
            records = self._records(_number(block, 124, 12))
            block = self._block()
        member = _member(block, records)
        self._left, self._filling = member.size, -member.size % BLOCK
        return member

    def content(self) -> Iterator[bytes]:
        """Yield the content of the present member.

        Raises:
            TransferRefused: the stream was cut short.
        """
        while self._left:
            data = self._read(min(self._left, _CHUNK))
            if not data:
                raise _damaged("it was cut short")
            self._left -= len(data)
            yield data

    def _skip(self) -> None:
        for _ in self.content():
            pass
        self._left, self._filling = self._filling, 0
        for _ in self.content():
            pass

    def _block(self) -> bytes:
        return self._exactly(BLOCK)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._read(size - len(data))
            if not more:
                raise _damaged("it was cut short")
            data += more
        return data

    def _records(self, size: int) -> dict[str, bytes]:
        if size > _MAX_EXTENDED:
            raise _damaged(f"a name takes {size} bytes")
        return parse_records(self._exactly(size + -size % BLOCK)[:size])


def parse_records(data: bytes) -> dict[str, bytes]:
    """Return the `LENGTH KEY=VALUE` records of an extended header.

    Raises:
        TransferRefused: they are none.
    """
    records: dict[str, bytes] = {}
    while data:
        digits, _, _ = data[:8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[len(digits) + 1 : length].partition(b"=")
        if not len(digits) + 3 < length <= len(data) or not equals or not value.endswith(b"\n"):
            raise _damaged("a record of a long name makes no sense")
        records[key.decode("ascii", "replace")] = value[:-1]
        data = data[length:]
    return records


def safe_parts(name: str) -> tuple[str, ...]:
    """Return a member's name as the names of its folders and its own; empty for the folder that all is in.

    Raises:
        TransferRefused: it leads out of that folder, or no file can have it.
    """
    parts = tuple(part for part in name.rstrip("/").split("/") if part != ".")
    if name == "" or name.startswith("/") or "\0" in name or "" in parts or ".." in parts:
        raise TransferRefused(f"The guest sent a file whose name is not safe: {name[:200]!r}.")
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > _MAX_PATH or len(parts) > _MAX_DEPTH or any(_is_long(part) for part in parts):
        raise TransferRefused(f"The guest sent a file whose name is too long: {name[:200]!r}...")
    return parts


def check_upload(upload: Upload) -> None:
    """Check the name of an upload, and that it has one content.

    Raises:
        InvalidInput: names the field.
    """
    path = upload.path
    parts = path.removeprefix("/").split("/")
    is_folder_itself = upload.source is not None and path == "."
    if not is_folder_itself and (not path or "\0" in path or {"", ".", ".."} & set(parts)):
        raise InvalidInput("uploads", path, "it must name a file or folder, without '.', '..' or '/' at its end")
    if len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH or any(map(_is_long, parts)):
        raise InvalidInput("uploads", path[:200], f"a name may have {_MAX_NAME} bytes, a path {_MAX_PATH}")
    if (upload.content is None) == (upload.source is None):
        raise InvalidInput("uploads", path, "it must have either a content or a source")
    if not 0 <= upload.mode <= 0o7777:
        raise InvalidInput("uploads", f"{path}: mode {upload.mode:o}", "permissions are 0 to 0o7777")


def _is_long(part: str) -> bool:
    return len(part.encode("utf-8", "surrogateescape")) > _MAX_NAME


def _member(block: bytes, records: dict[str, bytes]) -> Member:
    if _number(block, 148, 8) != sum(block[:148]) + 8 * 0x20 + sum(block[156:]) or block[257:262] != b"ustar":
        raise _damaged("a header makes no sense")
    if block[156:157] == _EXTENDED:
        raise _damaged("a header describes another one")
    kind = _KINDS.get(block[156:157], "other")
    prefix, name = block[345:500].partition(b"\0")[0], block[:100].partition(b"\0")[0]
    path = records.get("path", prefix + b"/" + name if prefix else name)
    size = _digits(records["size"]) if "size" in records else _number(block, 124, 12)
    mtime = _digits(records["mtime"].partition(b".")[0]) if "mtime" in records else _number(block, 136, 12)
    # Old writers mark a folder by its name alone.
    if kind == "file" and path.endswith(b"/"):
        kind = "folder"
    return Member(
        name=path.decode("utf-8", "surrogateescape"), kind=kind, size=size, mode=_number(block, 100, 8), mtime=mtime
    )


def _number(block: bytes, at: int, size: int) -> int:
    """Return an octal number; those in base 256, which need no more than a flag, are not taken."""
    text = block[at : at + size].strip(b" \0")
    if not text:
        return 0
    if not all(digit in b"01234567" for digit in text):
        raise _damaged("a number makes no sense")
    return int(text, 8)


def _digits(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise _damaged("a number makes no sense")
    return int(text)


def _damaged(reason: str) -> TransferRefused:
    return TransferRefused(f"What the guest sent is no archive of files: {reason}.")
