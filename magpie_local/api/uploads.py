"""What `uploads=` may be: files and folders for a job's guest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path

from magpie_local.domain.archive import Upload
from magpie_local.errors import InvalidInput

_ALLOWED = "a mapping of guest paths to bytes, to paths of this machine, or to (bytes, mode); or a list of paths"


def uploads_of(given: object) -> list[Upload]:
    """Return what is to be unpacked in the guest.

    Args:
        given: by the path in the guest (relative ones begin at the script's working directory): bytes, the path of a
            file or a folder of this machine, or bytes with their permissions; or a list of paths of this machine,
            which keep their names.

    Raises:
        InvalidInput: it is none of these.
    """
    if isinstance(given, Mapping):
        return [_upload(path, content) for path, content in given.items()]
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | bytearray):
        sources = [_source(one) for one in given]
        return [Upload(path=source.name, source=source) for source in sources]
    raise InvalidInput("uploads", given, _ALLOWED)


def _upload(path: object, content: object) -> Upload:
    if not isinstance(path, str):
        raise InvalidInput("uploads", path, _ALLOWED)
    match content:
        case bytes() | bytearray() | memoryview():
            return Upload(path=path, content=bytes(content))
        case (bytes() as data, int() as mode):
            return Upload(path=path, content=data, mode=mode)
        case str() | PathLike():
            return Upload(path=path, source=_source(content))
    raise InvalidInput(f"uploads[{path!r}]", content, _ALLOWED)


def _source(path: object) -> Path:
    if not isinstance(path, str | PathLike):
        raise InvalidInput("uploads", path, _ALLOWED)
    source = Path(fspath(path))
    if not source.exists():
        raise InvalidInput("uploads", str(source), "there is no such file or folder on this machine")
    return source.resolve()
