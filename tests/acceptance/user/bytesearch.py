"""A search for a secret in all that outlives a call: files, disks, the database, processes, logs, what is published.

It knows the secret in five encodings, written here a second time: what masks them in the guest must not be what looks
for what was not masked. Whatever is looked through is counted, so that a search of nothing is no proof.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
import subprocess
import tempfile
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, quote_plus

from magpie_local.domain.frames import STDERR, STDOUT, LogReader

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 4 << 20
_QCOW2 = b"QFI\xfb"
_SQLITE = b"SQLite format 3\0"


class Hit(NamedTuple):
    """Where a secret was found, and how it was written."""

    place: str
    form: str


def new_canary() -> str:
    """Return a secret that was never seen before; each encoding writes it in another way."""
    return f'cAnary/{secrets.token_hex(6)}+π "q" \\{secrets.token_hex(3)}'


def forms_of(value: str) -> dict[str, bytes]:
    """Return the ways in which a secret may be written, by name: plain, base64, hex, in a URL, in JSON."""
    data = value.encode()
    found = {
        "plain": data,
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "url": quote(value, safe="").encode(),
        "url path": quote(value).encode(),
        "url query": quote_plus(value).encode(),
        "json": json.dumps(value)[1:-1].encode(),
        "json utf-8": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
    }
    for before in range(3):
        found[f"base64 +{before}"] = _core(base64.b64encode, data, before)
        found[f"base64url +{before}"] = _core(base64.urlsafe_b64encode, data, before)
    return found


def reprs_of(value: str) -> dict[str, bytes]:
    """Return what Python makes of a secret within a list, a class or a traceback."""
    found = {"repr": repr(value), "repr of bytes": repr(value.encode()), "repr with quotes": repr(f"{value}'")[:-2]}
    return {name: text.encode().removeprefix(b"b")[1:-1] for name, text in found.items()}


class Search:
    """Looks for one secret.

    Args:
        value: the secret.

    Attributes:
        hits: what was found.
        looked: how many things of each kind were looked through.
    """

    def __init__(self, value: str) -> None:
        self._forms = forms_of(value) | reprs_of(value)
        self._reach = 3 * max(map(len, self._forms.values()))
        self.hits: set[Hit] = set()
        self.looked: Counter[str] = Counter()

    def bytes(self, place: str, data: bytes) -> None:
        """Look through bytes, also across line breaks."""
        folded = b"\n" in data
        flat = data.translate(None, b"\r\n") if folded else data
        for name, form in self._forms.items():
            if form in data or (folded and form in flat):
                self.hits.add(Hit(place, name))

    def text(self, place: str, text: object) -> None:
        """Look through what somebody would be shown: text as it is, anything else as its repr and as JSON."""
        self.looked["text"] += 1
        if isinstance(text, str):
            self.bytes(place, text.encode("utf-8", "surrogateescape"))
            return
        self.bytes(place, repr(text).encode())
        self.bytes(place, json.dumps(text, default=str, ensure_ascii=False).encode())

    def state(self, *folders: Path) -> None:
        """Look through all that lies below folders.

        A copy of them, made by another process: closing a file of an open database would take this process's locks.
        """
        for folder in folders:
            with tempfile.TemporaryDirectory(dir=folder.parent) as copy:
                _copy(folder, copy)
                entries = [(str(path.relative_to(copy)), path) for path in sorted(Path(copy).rglob("*"))]
                for place, path in entries:
                    self._entry(place, path)
                # Only now: whoever opens a database may move what is in its WAL.
                for place, path in entries:
                    if path.is_file() and not path.is_symlink():
                        self._known(place, path)

    def processes(self, *, marked: str = "") -> None:
        """Look through arguments and environment of every process of this machine that can be read.

        Args:
            marked: an entry of the environment; that of processes without it is not looked at.
        """
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is another user's
                environ = (folder / "environ").read_bytes()
                if not marked or marked.encode() in environ.split(b"\0"):
                    self.bytes(f"environ of {folder.name}", environ)
                    self.looked["environ"] += 1
                self.bytes(f"cmdline of {folder.name}", (folder / "cmdline").read_bytes())
                self.looked["cmdline"] += 1

    def _entry(self, place: str, path: Path) -> None:
        self.bytes(f"name of {place}", os.fsencode(place))
        if path.is_symlink():
            self.bytes(f"target of {place}", os.fsencode(path.readlink()))
        elif path.is_file():
            self.looked["file"] += 1
            for piece in _pieces(path, self._reach):
                self.bytes(place, piece)

    def _known(self, place: str, path: Path) -> None:
        """Look through a file as those see it who know its format."""
        with path.open("rb") as file:
            magic = file.read(16)
        if magic.startswith(_QCOW2):
            self._disk(place, path)
        elif magic.startswith(_SQLITE):
            self._database(place, path)
        elif path.name == "log":
            self._log(place, path)

    def _disk(self, place: str, path: Path) -> None:
        """Look through the disk that a guest would see: clusters lie anywhere in the file, and may be compressed."""
        self.looked["disk"] += 1
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            raw = Path(folder) / "raw"
            subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", str(path), str(raw)], check=True)
            for piece in _pieces(raw, self._reach):
                self.bytes(f"{place} as a disk", piece)

    def _database(self, place: str, path: Path) -> None:
        """Look through each value of each table: in the file a long one lies on several pages."""
        with closing(sqlite3.connect(path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                self.looked["table"] += 1
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    for value in row:
                        data = value if isinstance(value, bytes) else str(value).encode()
                        self.bytes(f"{place} table {table}", data)

    def _log(self, place: str, path: Path) -> None:
        """Look through the streams that a log holds: in the file the headers of frames stand between their pieces."""
        frames = LogReader().feed(path.read_bytes())
        for kind in (STDOUT, STDERR):
            self.looked["stream"] += 1
            self.bytes(f"{place} stream {kind}", b"".join(data for one, _, data in frames if one == kind))


def _copy(folder: Path, target: str) -> None:
    """Copy a folder that is in use: a file may go meanwhile, anything else is an error."""
    command = ["cp", "-a", "--sparse=always", f"{folder}/.", target]
    done = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    trouble = [line for line in done.stderr.splitlines() if not line.endswith("No such file or directory")]
    assert not trouble, trouble


def _core(encode: object, data: bytes, before: int) -> bytes:
    """Return those characters of base64 that are `data`'s alone, whatever stands around it."""
    assert callable(encode)
    text: bytes = encode(bytes(before) + data + bytes(3))
    return text[-(-8 * before // 6) : 8 * (before + len(data)) // 6]


def _pieces(path: Path, overlap: int) -> Iterator[bytes]:
    """Yield the content of a file, without its holes, in pieces that overlap."""
    with path.open("rb", buffering=0) as file:
        at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole follows
                return
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < hole:
                piece = os.pread(file.fileno(), min(_CHUNK, hole - at), at)
                if not piece:
                    return
                yield piece
                at = at + len(piece) if at + len(piece) >= hole else at + max(1, len(piece) - overlap)
