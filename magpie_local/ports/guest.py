"""The guest port: the channel to a VM's agent (wire format: domain.frames)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from magpie_local.domain.vm import SSH_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from magpie_local.domain.exitrecord import WorkspaceEnd
    from magpie_local.domain.identity import Identity, Renewal
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.network import GuestConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the agent is told to run. Delivered byte for byte; the agent takes one order in its life."""

    attempt_id: str
    nonce: str
    script: bytes = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    timeout: float | None
    #: Most bytes of output kept: head and tail.
    log_limit: int
    #: Taken up right before the script's first instruction.
    renewal: Renewal
    #: The guest stays when the script has ended, with what that left running, until it is halted.
    persistent: bool = False
    #: Values that the log must not show: in its output each occurrence becomes `***`, also in base64, hex, and as URLs
    #: and JSON would hold it. Those with fewer than four characters stay.
    mask: tuple[str, ...] = field(default=(), repr=False)
    #: Files that the agent writes to its outputs port as a tar stream when the script has ended: patterns, relative to
    #: its working directory or absolute, with `*`, `?`, `[...]` and `**`; a folder is meant with all that is in it.
    outputs: tuple[str, ...] = ()
    #: Most bytes of that stream, its end (1,024 bytes) not counted.
    outputs_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """What the agent says of itself."""

    state: Literal["idle", "running", "exited"]
    #: The attempt whose order it took; None while idle.
    attempt_id: str | None
    #: Whether it has an identity of its own.
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Where the time of a script's start went inside the guest, seconds."""

    #: Taking up the renewal.
    renew: float
    #: Starting the script's process.
    spawn: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """How a disk was mounted."""

    #: e2fsck's exit code: 0 nothing, 1 or 2 something was repaired. None where no check was asked for.
    fsck: int | None
    #: Its file system was enlarged to the size of its disk.
    grown: bool
    #: Seconds, from the request to the answer, within the guest.
    took: float
    #: What was repaired, or why it could not be enlarged.
    note: str = ""


class GuestServices(Protocol):
    """What an agent does beside its script; each GuestSession of this package's offers it as well."""

    async def mount(self, *, check: bool, serial: str = "workspace", path: str = "/workspace") -> Mounted:
        """Mount the disk with `serial`, which may have been plugged in just now; before the order.

        The script then starts there. Mounting a mounted one returns the first answer. At the script's end it is
        unmounted before the exit record is written (ExitRecord.workspace); a persistent guest keeps it.

        Args:
            check: have it repaired first, as far as that loses nothing.
            serial: of the disk (domain.vm.Disk).
            path: a folder of the guest.

        Raises:
            GuestLost: the channel broke.
            HostError: there is no such disk, no ext4 on it, or it needs a repair that loses something.
        """
        ...

    async def upload(self, blocks: Iterable[bytes], *, size: int, crc: int) -> None:
        """Unpack a tar file in the guest, as root: before the order, after a mount. Twice, it is done twice.

        Relative names begin where the script will start; absolute ones are the guest's. Permissions are kept, parents
        are made, files that are there are replaced.

        Args:
            blocks: the file in pieces, best of about a MiB; each is fetched in a thread.
            size, crc: of the whole file, bytes and CRC-32.

        Raises:
            GuestLost: the channel broke.
            HostError: there is no room for it, something is in the way, or it can't be read.
        """
        ...

    async def join(self, network: GuestConfig) -> None:
        """Set up the guest's card, and the names and authorities that it knows; returns when that is done.

        May come at any time, also while the script runs, and each time says all: what has not changed is left alone,
        so that connections live on when a peer comes.

        Args:
            network: addresses, routes, name servers, lines for /etc/hosts, and authorities.

        Raises:
            GuestLost: the channel broke.
            HostError: the guest can't; or it is at its warm-up, or being halted.
        """
        ...

    async def open_ssh(self, authorized: str, address: str = SSH_ADDRESS) -> str:
        """Let the owners of `authorized` (public keys, a line each) in as root and as magpie; returns when they can.

        The guest must be settled. Asked again, the new keys count from then on. The way in is LiveVms.expose.

        Returns:
            The host key's public half, as the guest says. Trust the one in the Identity.

        Raises:
            GuestLost: the channel broke.
            HostError: it is not settled, has no card for it, or sshd does not start.
        """
        ...

    async def renew(self, renewal: Renewal) -> None:
        """Give a guest that has stood still the right time, and fresh randomness.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused or failed.
        """
        ...

    async def halt(self, grace: float) -> WorkspaceEnd | None:
        """End the guest cleanly: SIGTERM to all its processes, SIGKILL after `grace` seconds, unmount, power off.

        A running script's exit record is written first, the log's HALT frame last.

        Returns:
            How the workspace was left; None where it had none.

        Raises:
            GuestLost: the channel broke; the log may tell whether it was halted.
            HostError: it is at its warm-up, or mounting.
        """
        ...


class GuestSession(Protocol):
    """An open channel to one agent."""

    async def hello(self) -> GuestState:
        """Return the agent's state; waits until it answers (it does once booted).

        Raises:
            GuestLost: the channel broke.
        """
        ...

    async def settle(self, identity: Identity, renewal: Renewal) -> None:
        """Give the VM its identity, fresh randomness and the right time; twice is as good as once.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused or failed.
        """
        ...

    async def exercise(self) -> None:
        """Have the agent run its warm-up script the way it will run the order; returns when that has ended.

        It leaves nothing behind but warm caches: no output, no process, no file. Afterwards the VM counts as not
        settled: it may be frozen, and no fork of it may go on under its identity.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused, or the warm-up failed.
        """
        ...

    async def run(self, order: Order) -> Launch:
        """Hand over the order; returns when the script has been started.

        The agent starts a script only when it has the whole order, and never a second one: after an unknown
        outcome, reconnect and ask hello().

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused.
        """
        ...

    async def stop(self, grace: float) -> None:
        """Have the agent send SIGTERM to the script's process group, and SIGKILL after `grace` seconds."""
        ...

    async def interrupt(self) -> None:
        """Have the agent send SIGINT to the script's process group; what comes of that is the script's choice."""
        ...

    async def exited(self) -> None:
        """Return when the exit record is in the log.

        Raises:
            GuestLost: the channel broke.
        """
        ...

    async def close(self) -> None:
        """Leave the channel; the guest goes on."""
        ...


class GuestAgent(GuestSession, GuestServices, Protocol):
    """An agent with all that it can do."""


class Guest(Protocol):
    """Opens channels to agents."""

    async def connect(self, control: Path) -> GuestAgent:
        """Connect to the control port's socket.

        Raises:
            GuestLost: nothing listens there.
        """
        ...

    async def new_identity(self, vm_id: VmId) -> Identity:
        """Return a fresh identity for a VM, with an SSH host key of its own."""
        ...
