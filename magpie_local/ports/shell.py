"""The shell port: commands, files and forwarded ports of a running VM, over SSH."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from magpie_local.domain.sizes import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

#: Which of a command's two outputs.
Stream: TypeAlias = Literal["stdout", "stderr"]
#: Told of every piece of output as it comes, also of what is over the limit. It must not block.
OnOutput: TypeAlias = "Callable[[Stream, bytes], None]"
#: Told while files are copied: the file's path relative to what is copied, and the bytes copied so far in all.
OnProgress: TypeAlias = "Callable[[str, int], None]"

#: Most bytes kept of each of a command's outputs.
OUTPUT_LIMIT = 16 * MIB
#: Most bytes of a file that is read into memory.
READ_LIMIT = 64 * MIB
#: Seconds after which a connection that nobody uses is closed: it would keep its VM awake.
LINGER = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """Where a VM's SSH server is reached, and by what both sides know each other."""

    host: str
    port: int
    username: str
    #: The server's public key, one line (`ssh-ed25519 AAAA...`). Nothing else is ever talked to.
    host_key: str
    #: The folder with our private key, in the file `key`.
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellResult:
    """How a command ended."""

    #: None when a signal ended it.
    exit_code: int | None
    #: The signal's name without SIG (`KILL`), when one ended the command itself.
    signal: str | None
    #: The first bytes of each output, exactly as the command wrote them.
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    #: Whether there was more output than the limit.
    truncated: bool
    #: Seconds from its start to its end.
    duration: float
    #: Whether its time was over, and its process group was killed.
    timed_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One entry of a folder in a VM."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    #: Bytes.
    size: int
    #: The permission bits (0o644).
    mode: int
    #: Unix time of the last change of its content, seconds.
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLimits:
    """When a copy is given up: whoever fills the folder may not be trusted."""

    #: Most files and folders.
    entries: int = 100_000
    #: Most bytes of content in all.
    size: int = 64 * GIB


#: Those that hold unless others are given.
COPY_LIMITS = CopyLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """What was copied."""

    files: int
    folders: int
    #: Bytes of content.
    size: int
    #: What was left out, each with the reason: `a/link: a symbolic link`.
    notes: tuple[str, ...]


class ShellFiles(Protocol):
    """The files of one VM, as the user who is logged in sees them. Relative paths begin at that user's home."""

    async def list(self, path: str) -> list[FileEntry]:
        """Return the entries of a folder by name.

        Raises:
            GuestFileNotFound: there is no such folder.
            TransferError: it can't be listed.
            SshError: the VM can't be reached.
        """
        ...

    async def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes:
        """Return a file's content.

        Raises:
            GuestFileNotFound: there is no such file.
            TransferRefused: it has more than `limit` bytes.
            TransferError: it can't be read.
            SshError: the VM can't be reached.
        """
        ...

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file whole or not at all; one that is there is replaced.

        Raises:
            GuestFileNotFound: its folder does not exist.
            TransferError: it can't be written.
            SshError: the VM can't be reached.
        """
        ...

    async def download(
        self,
        source: str,
        destination: Path,
        *,
        limits: CopyLimits = COPY_LIMITS,
        replace: bool = False,
        on_progress: OnProgress | None = None,
    ) -> CopyReport:
        """Copy a file or a folder with all that is in it out of the VM, to exactly `destination`.

        It appears there whole or not at all. Symbolic links and devices are left out and noted; permissions are
        kept, but for the set-user-id, set-group-id and sticky bits.

        Args:
            replace: whether a file may take the place of another; a folder never takes the place of anything but an
                empty folder.

        Raises:
            GuestFileNotFound: there is no `source`.
            TransferRefused: a name is unsafe, a limit is passed, or something is in the way.
            TransferError: something can't be read or written.
            SshError: the VM can't be reached.
        """
        ...

    async def upload(
        self,
        source: Path,
        destination: str,
        *,
        limits: CopyLimits = COPY_LIMITS,
        replace: bool = False,
        on_progress: OnProgress | None = None,
    ) -> CopyReport:
        """Copy a file or a folder with all that is in it into the VM; otherwise as `download`."""
        ...


class Shell(Protocol):
    """A VM that one can work in.

    All calls share one connection, which is made anew when it broke, or was closed because nobody used it.
    """

    @property
    def files(self) -> ShellFiles:
        """Its files."""
        ...

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
        limit: int = OUTPUT_LIMIT,
        on_output: OnOutput | None = None,
    ) -> ShellResult:
        """Run a command and return how it ended; many may run at once.

        Text goes to the user's shell, a list is run as it is. When its time is over, when the call is cancelled, or
        when the connection breaks, its process group gets SIGTERM, and SIGKILL a second later.

        Args:
            env: more environment variables. They appear in no argument list of the VM.
            cwd: the folder to run it in; the command exits with 126 where that can't be entered.
            stdin: what it can read; nothing by default.
            timeout: seconds until it is killed.
            limit: most bytes kept of each output.

        Raises:
            InvalidInput: the command or a variable can't be passed on.
            SshUnavailable: it was not started.
            SshLost: it was started, and how it ended is not known.
        """
        ...

    def forward(
        self, guest_port: int, *, guest_host: str = "127.0.0.1", local_port: int = 0, local_host: str = "127.0.0.1"
    ) -> AbstractAsyncContextManager[tuple[str, int]]:
        """Make a TCP port of the VM reachable here while the context is open; gives (host, port).

        Args:
            guest_host: the IP address that the service listens on, as the VM sees it.
            local_host: the IP address to listen on. Anything but a loopback address opens the port to others.
            local_port: 0 takes any that is free.

        Raises:
            InvalidInput: a port or the address is none.
            PortUnavailable: the local port is taken.
        """
        ...

    async def close(self) -> None:
        """Close the connection, and end what still runs on it."""
        ...


class Shells(Protocol):
    """Opens shells."""

    async def connect(self, target: SshTarget, *, linger: float = LINGER) -> Shell:
        """Connect to a VM's SSH server; waits a moment for one that is just starting.

        Args:
            linger: seconds after which the connection is closed while no command, copy or forward uses it; the next
                makes a new one.

        Raises:
            SshUnavailable: nothing answers, or it refuses our key.
            HostKeyMismatch: the server has another key than the target's.
        """
        ...
