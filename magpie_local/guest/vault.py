"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under a key of this user, which lies outside every state directory."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import TYPE_CHECKING

from magpie_local.errors import HostError, SecretsLost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from magpie_local.domain.ids import JobId

_KEY_SIZE, _NONCE_SIZE = 32, 12


class FileVault:
    """The port Vault.

    Args:
        key: the key's file (0600 in a folder 0700); made when the first secret is sealed.
    """

    def __init__(self, key: Path) -> None:
        self._path = key

    def seal(self, job_id: JobId, values: Mapping[str, str]) -> bytes:
        """Return `values` sealed for one job: nonce, ciphertext and tag.

        Raises:
            HostError: the key can't be read or made.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only who has secrets pays for it

        cipher = AESGCM(self._key(make=True))  # before there is anything in clear: a traceback may show a frame
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return nonce + cipher.encrypt(nonce, json.dumps(dict(values)).encode(), job_id.encode())

    def open(self, job_id: JobId, box: bytes) -> dict[str, str]:
        """Return what was sealed for a job.

        Raises:
            SecretsLost: the key does not fit, or is gone.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            key = self._key(make=False)
            plain = AESGCM(key).decrypt(box[:_NONCE_SIZE], box[_NONCE_SIZE:], job_id.encode())
        except HostError as error:
            raise SecretsLost(f"The secrets of job {job_id} can't be read: {error.message}") from None
        except (InvalidTag, ValueError):
            raise SecretsLost(
                f"The secrets of job {job_id} can't be read: {self._path} is not the key that they were sealed with."
            ) from None
        return {str(name): str(value) for name, value in json.loads(plain).items()}

    def _key(self, *, make: bool) -> bytes:
        try:
            if make:
                self._make()
            key = self._path.read_bytes()
        except FileNotFoundError:
            raise HostError(f"There is no key of secrets at {self._path}.", hint="Set XDG_CONFIG_HOME.") from None
        except OSError as error:
            hint = f"Make {self._path} readable, or set XDG_CONFIG_HOME to a folder that you can write."
            raise HostError(f"The key of secrets can't be used: {error}.", hint=hint) from error
        if len(key) != _KEY_SIZE:
            raise HostError(
                f"{self._path} is no key: it has {len(key)} bytes, a key has {_KEY_SIZE}.",
                hint="Remove it, and a new one is made; jobs that wait with secrets must be created again.",
            )
        return key

    def _make(self) -> None:
        """Have a key: written whole under another name first, so that nobody reads half, and whoever is first wins."""
        if self._path.exists():
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_SIZE))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, self._path)
        fresh.unlink()
