"""Keys and configuration with which any OpenSSH client reaches a VM, in a folder of their own.

Nothing is read from or written to ~/.ssh: `ssh -F` ignores the user's and the system's configuration.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.errors import InvalidInput, StateUnavailable
from magpie_local.ports.shell import SshTarget

if TYPE_CHECKING:
    from pathlib import Path

KEY, KNOWN_HOSTS, CONFIG = "key", "known_hosts", "config"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")
#: What OpenSSH's configuration can't say in a quoted path: it expands ${...}, and older ones know no escapes.
_UNSPEAKABLE = re.compile(r'["\\\x00-\x1f\x7f]|\$\{')

_CONFIGURATION = """\
# Written by magpie; ssh -F reads this instead of your own configuration.
Host {name} {short}
    HostName {host}
    Port {port}
    User {username}
    IdentityFile {key}
    IdentitiesOnly yes
    IdentityAgent none
    PreferredAuthentications publickey
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    HostKeyAlias {alias}
    UpdateHostKeys no
    ControlMaster no
    ControlPath none
    ForwardAgent no
    ServerAliveInterval 15
    LogLevel ERROR
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAccess:
    """How a job's VM is reached with OpenSSH's own programs."""

    target: SshTarget
    #: The host's name within the configuration.
    alias: str
    config: Path

    def argv(self, program: str = "ssh") -> list[str]:
        """Return the command as a list; scp, sftp and others take the same -F, and the alias as the host."""
        return [program, "-F", str(self.config), self.alias]

    @property
    def command(self) -> str:
        """The command as a line that any POSIX shell takes."""
        return shlex.join(self.argv())


class SshFiles:
    """The folder with one VM's client key, known host key and configuration. Its calls are short, but do block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> str:
        """Return the public half of our key, one line; the pair is made when there is none.

        Raises:
            InvalidInput: the folder's path can't be named in OpenSSH's configuration.
            StateUnavailable: the folder or the key is not ours, or can't be read.
        """
        if _UNSPEAKABLE.search(str(self._folder)):
            raise InvalidInput(
                "folder", str(self._folder), "OpenSSH can't be told of a path with quotes, backslashes or ${",
                hint="Choose another state directory with MAGPIE_HOME.",
            )  # fmt: skip
        _private_folder(self._folder)
        try:
            private = (self._folder / KEY).read_bytes()
        except FileNotFoundError:
            private = _new_key()
            self._write(KEY, private)
        except OSError as error:
            raise StateUnavailable(f"The key in {self._folder} can't be read: {error.strerror}.") from error
        return _public_half(private, self._folder)

    def write(
        self, name: str, *, port: int, host_key: str, username: str = "magpie", host: str = "127.0.0.1"
    ) -> SshAccess:
        """Write known_hosts and configuration, in place of earlier ones; `name` is the job's id.

        Raises:
            InvalidInput: a value is none that OpenSSH could be told.
            StateUnavailable: the folder can't be written.
        """
        _check(name, username, host, port, host_key)
        self.prepare()
        alias = f"magpie-{name}"
        known = f"[{host}]:{port} {host_key}\n{alias} {host_key}\n"
        config = _CONFIGURATION.format(
            name=name, short=name[:8], host=host, port=port, username=username, alias=alias,
            key=_quoted(self._folder / KEY), known_hosts=_quoted(self._folder / KNOWN_HOSTS),
        )  # fmt: skip
        self._write(KNOWN_HOSTS, known.encode())
        self._write(CONFIG, config.encode())
        return self.access(name, port=port, host_key=host_key, username=username, host=host)

    def access(
        self, name: str, *, port: int, host_key: str, username: str = "magpie", host: str = "127.0.0.1"
    ) -> SshAccess:
        """Return what was written with the same words."""
        target = SshTarget(host=host, port=port, username=username, host_key=host_key, folder=self._folder)
        return SshAccess(target=target, alias=name[:8], config=self._folder / CONFIG)

    def remove(self) -> None:
        """Remove the folder; one that is gone is fine."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file of mode 0600 whole or not at all."""
        fresh = self._folder / f".{name}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)  # the umask may have taken even our own rights
                file.write(content)
            fresh.replace(self._folder / name)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise StateUnavailable(f"{self._folder / name} can't be written: {error.strerror}.") from error


def _private_folder(folder: Path) -> None:
    """Have a folder of ours with mode 0700, which OpenSSH asks for as well."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StateUnavailable(f"{folder} is not a folder of ours; it would not be safe to keep a key there.")
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise StateUnavailable(f"{folder} can't be used: {error.strerror}.") from error


def _new_key() -> bytes:
    """Return a new Ed25519 private key in OpenSSH's format."""
    from cryptography.hazmat.primitives import serialization  # a tenth of a second: not for whoever needs no key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public_half(private: bytes, folder: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(private, password=None)
    except ValueError as error:
        raise StateUnavailable(
            f"The key in {folder} is damaged.", hint="Remove that folder; a VM that trusts the key is reached no more."
        ) from error
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line.decode()


def _check(name: str, username: str, host: str, port: int, host_key: str) -> None:
    """Raise InvalidInput for what would mean something else in a configuration or in known_hosts."""
    for field, value in (("name", name), ("username", username), ("host", host)):
        if not _NAME.fullmatch(value):
            raise InvalidInput(field, value, "letters, digits, '.', '_' and '-'")
    if not 0 < port < 65536:
        raise InvalidInput("port", port, "a number from 1 to 65535")
    if not _PUBLIC_KEY.fullmatch(host_key):
        raise InvalidInput("host_key", host_key, "one line: the key's type and its bytes in base64")


def _quoted(path: Path) -> str:
    """Return a path as OpenSSH's configuration wants it: in quotes, and no % begins a token (%h)."""
    return '"{}"'.format(str(path).replace("%", "%%"))
