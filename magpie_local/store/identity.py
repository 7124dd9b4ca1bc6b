"""Which state directory this is: VMs carry the id, so that nobody touches another directory's (F21, F22)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.store.session import Session


def stamp(folder: Path) -> str:
    """Return what tells this folder from a copy of it: device and inode."""
    facts = folder.stat()
    return f"{facts.st_dev}:{facts.st_ino}"


def is_marked(session: Session, folder: Path) -> bool:
    """Return whether the id in the database was made for this folder."""
    return bool(session.value("get_meta", key="folder") == stamp(folder))


def mark(session: Session, folder: Path) -> None:
    """Give this folder a new id, unless another process just did.

    A copy (`cp -a`) thereby lets go of the original's VMs. So does a folder whose device number changed with a reboot,
    which no VM survives either; renaming it keeps the id.
    """
    if not is_marked(session, folder):
        session.run("set_meta", key="state_id", value=str(uuid.uuid4()))
        session.run("set_meta", key="folder", value=stamp(folder))


def read_id(session: Session) -> str:
    """Return the id as it stands."""
    return str(session.value("get_meta", key="state_id"))
