"""The vault port: what keeps secrets in a form that can be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.domain.ids import JobId


class Vault(Protocol):
    """Seals the secrets of jobs with a key that lies outside the state directory."""

    def seal(self, job_id: JobId, values: Mapping[str, str]) -> bytes:
        """Return `values` sealed: of no use without the key, and for another job.

        Raises:
            HostError: there is no key, and none can be made.
        """
        ...

    def open(self, job_id: JobId, box: bytes) -> dict[str, str]:
        """Return what was sealed for a job.

        Raises:
            SecretsLost: the key is another one now, or is gone.
        """
        ...
