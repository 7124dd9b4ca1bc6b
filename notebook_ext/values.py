"""What a cell brings along of its notebook: variables, secrets, files; and what it takes back."""

from __future__ import annotations

import fnmatch
import json
import os
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from notebook_ext.carry.luggage import FOLDER
from notebook_ext.short import usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from magpie_local import Job, Magpie

_MISSING = object()
_WILD = set("*?[")


def environment(entries: Iterable[str], variables: Mapping[str, object]) -> dict[str, str]:
    """Return `KEY=VALUE` entries as a mapping; a bare `KEY` takes the Python variable of that name as text.

    Raises:
        UsageError: there is no such variable, or it can't be carried as text.
    """
    return dict(_entry(entry, variables) for entry in entries)


def secrets(entries: Iterable[str], variables: Mapping[str, object]) -> dict[str, str]:
    """Return the values of secrets: Python variables, or else ours of the environment.

    Raises:
        UsageError: a value was written into the cell, or there is none.
    """
    found = {}
    for key in entries:
        if "=" in key:
            name = key.partition("=")[0]
            raise usage(f"%%magpie: --secret {name}=*** would be saved in the notebook; write --secret {name}")
        value = variables.get(key, os.environ.get(key, _MISSING))
        if not isinstance(value, str):
            cure = f"import getpass; {key} = getpass.getpass()"
            raise usage(f"%%magpie: --secret {key}: there is no such text; in another cell: {cure}")
        found[key] = value
    return found


def uploads(entries: Iterable[str]) -> dict[str, Path]:
    """Return `SRC[:DST]` entries as paths in the guest, each with its source.

    Raises:
        UsageError: a source does not exist.
    """
    found = {}
    for entry in entries:
        source, colon, destination = entry.rpartition(":")
        if not colon or not source or Path(entry).exists():
            source, destination = entry, Path(entry).resolve().name
        if not Path(source).expanduser().exists():
            raise usage(f"%%magpie: --put {entry}: there is no {source!r} in {os.getcwd()}")
        found[destination] = Path(source).expanduser()
    return found


def patterns(entries: Iterable[str]) -> tuple[str, ...]:
    """Return what `SRC[:DST]` entries have collected."""
    return tuple(_split(entry)[0] for entry in entries)


def fetch(client: Magpie, job: Job, entries: Iterable[str]) -> list[Path]:
    """Write what was collected of a job to where `SRC[:DST]` entries say; files that are there are replaced."""
    outputs, written = client.jobs.outputs(job.id), []
    # What --out has brought is no file of the user's.
    files = [one for one in outputs.list() if not one.path.startswith(f"{FOLDER}/")]
    for entry in entries:
        source, destination = _split(entry)
        for one in files:
            if (target := _target(one.path, source, destination)) is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(outputs.read(one.path))
                written.append(target)
    return written


def _entry(entry: str, variables: Mapping[str, object]) -> tuple[str, str]:
    key, equals, text = entry.partition("=")
    if equals:
        return key, text
    if key in variables:
        return key, _text(key, variables[key])
    if key in os.environ:
        return key, os.environ[key]
    near = get_close_matches(key, [name for name in variables if not name.startswith("_")], n=1, cutoff=0.6)
    cure = f"did you mean {near[0]}?" if near else f"set it, or write -e {key}=VALUE"
    raise usage(f"%%magpie: -e {key}: there is no variable {key!r}; {cure}")


def _text(key: str, value: object) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value) if not isinstance(value, str) else value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a NumPy scalar
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise usage(f"%%magpie: -e {key}: a {kind} is no text; write it to a file, and --put that") from None


def _split(entry: str) -> tuple[str, str]:
    source, colon, destination = entry.rpartition(":")
    return (source, destination) if colon and source else (entry, "")


def _target(path: str, source: str, destination: str) -> Path | None:
    """Return where a collected file goes; None where the entry does not mean it."""
    wanted = str(PurePosixPath(source.lstrip("/")))
    inside = path.startswith(f"{wanted}/")
    if not inside and not fnmatch.fnmatchcase(path, wanted):
        return None
    name = PurePosixPath(path)
    folder = Path(destination or ".").expanduser()
    if inside:
        rest = name.relative_to(wanted)
        return folder / rest if destination else folder / PurePosixPath(wanted).name / rest
    if destination and not (destination.endswith("/") or folder.is_dir() or _WILD & set(source)):
        return folder
    return folder / name.name
