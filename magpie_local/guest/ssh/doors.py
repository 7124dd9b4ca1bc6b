"""The Doors port: a folder for each job whose VM can be entered."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from magpie_local.guest.ssh.access import SshFiles
from magpie_local.ports.doors import Door

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import JobId

#: What `find` reads: written last, so that a door is whole or not there.
_DOOR = "door.json"


class SshDoors:
    """Keys and configurations below one folder.

    Args:
        folder: where they lie; made (0700) with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, job_id: JobId) -> str:
        """Return the public key that the VM is to let in.

        Raises:
            InvalidInput, StateUnavailable.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._files(job_id).prepare()

    def write(self, job_id: JobId, *, port: int, host_key: str) -> Door:
        """Note where the VM answers, and its public host key."""
        self._files(job_id).write(job_id, port=port, host_key=_without_comment(host_key))
        folder = self._folder / job_id
        fresh = folder / f".{_DOOR}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"port": port, "host_key": _without_comment(host_key)}, file)
        fresh.replace(folder / _DOOR)
        door = self.find(job_id)
        assert door is not None
        return door

    def find(self, job_id: JobId) -> Door | None:
        """Return a job's door; None where it has none."""
        folder = self._folder / job_id
        try:
            noted = json.loads((folder / _DOOR).read_bytes())
            port, host_key = int(noted["port"]), str(noted["host_key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        access = SshFiles(folder).access(job_id, port=port, host_key=host_key)
        return Door(target=access.target, alias=access.alias, config=access.config, command=access.command)

    def remove(self, job_id: JobId) -> None:
        """Remove a job's door, key and all."""
        (self._folder / job_id / _DOOR).unlink(missing_ok=True)
        self._files(job_id).remove()

    def _files(self, job_id: JobId) -> SshFiles:
        return SshFiles(self._folder / job_id)


def _without_comment(public_key: str) -> str:
    return " ".join(public_key.split()[:2])
