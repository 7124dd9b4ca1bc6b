"""What both directions of a copy think of files and folders. Pure: modes in, decisions out."""

from __future__ import annotations

import os
import stat
from typing import Literal, TypeAlias

from magpie_local.errors import TransferRefused

#: What an entry of a folder is.
Kind: TypeAlias = Literal["file", "folder", "link", "other"]

#: Why an entry is left out of a copy.
LEFT_OUT: dict[Kind, str] = {"link": "a symbolic link", "other": "neither a file nor a folder"}
#: The permissions of what is being made, also of what is to be read-only in the end.
FILE_MODE, FOLDER_MODE = 0o600, 0o700
_KEPT = 0o777
#: The folder itself and the one above, which servers list as well, and how many that are.
_DOTS = (".", "..")
DOTS = len(_DOTS)


def kind_of(mode: int | None) -> Kind:
    """Return what a mode (st_mode) says an entry is; servers may leave it out."""
    if mode is None:
        return "other"
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def kept(mode: int | None) -> int:
    """Return the permissions that a copy keeps: all but set-user-id, set-group-id and sticky."""
    return (mode or 0) & _KEPT


def is_folder(name: object, mode: int | None) -> bool:
    """Return whether what is to be copied is a folder, and not a file.

    Raises:
        TransferRefused: it is neither.
    """
    kind = kind_of(mode)
    if kind in LEFT_OUT:
        raise TransferRefused(f"{name} is neither a file nor a folder.")
    return kind == "folder"


def safe_name(name: str | bytes) -> str | None:
    """Return a folder's entry as one path component; None for the folder itself and the one above.

    Raises:
        TransferRefused: it is none.
    """
    text = os.fsdecode(name)
    if text in _DOTS:
        return None
    if not text or "/" in text or "\0" in text:
        raise TransferRefused(f"The VM told of a file with the name {text[:100]!r}, which no file can have.")
    return text


def refuse(destination: object, *, found: int, folder: bool, replace: bool, empty: bool) -> None:
    """Raise TransferRefused unless a copy may take the place of what is there.

    Args:
        destination: the place, as the message names it.
        found: the mode of what is there.
        folder: whether the copy is one.
        replace: whether a file may take the place of another.
        empty: whether what is there is a folder with nothing in it, of which a folder may always take the place.
    """
    if (folder and empty) or (not folder and replace and kind_of(found) == "file"):
        return
    raise TransferRefused(f"{destination} is in the way.", hint="Name another destination, or remove it first.")
