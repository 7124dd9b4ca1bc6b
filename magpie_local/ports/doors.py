"""The doors port: by what the user's SSH programs and ours reach the VM of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import JobId
    from magpie_local.ports.shell import SshTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How one job's VM is reached."""

    target: SshTarget
    #: Its name in the configuration.
    alias: str
    #: An ssh_config(5) that OpenSSH's programs read instead of the user's (-F).
    config: Path
    #: The ssh command as a line that any POSIX shell takes.
    command: str


class Doors(Protocol):
    """Keys, known hosts and configurations, a folder for each job; calls are short, but do block."""

    def prepare(self, job_id: JobId) -> str:
        """Return the public key that the VM is to let in; the pair is made when there is none.

        Raises:
            InvalidInput, StateUnavailable: a folder for it can't be had.
        """
        ...

    def write(self, job_id: JobId, *, port: int, host_key: str) -> Door:
        """Note where the VM answers, and its public host key; from now on the door is there for everybody."""
        ...

    def find(self, job_id: JobId) -> Door | None:
        """Return a job's door; None where it has none (yet, or any more)."""
        ...

    def remove(self, job_id: JobId) -> None:
        """Remove a job's door, key and all; one that is gone is fine."""
        ...
