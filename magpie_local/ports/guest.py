"""The guest port: the channel to a VM's agent (wire format: domain.frames)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from magpie_local.domain.identity import Identity, Renewal
    from magpie_local.domain.ids import VmId


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

    async def exited(self) -> None:
        """Return when the exit record is in the log.

        Raises:
            GuestLost: the channel broke.
        """
        ...

    async def close(self) -> None:
        """Leave the channel; the guest goes on."""
        ...


class Guest(Protocol):
    """Opens channels to agents."""

    async def connect(self, control: Path) -> GuestSession:
        """Connect to the control port's socket.

        Raises:
            GuestLost: nothing listens there.
        """
        ...

    async def new_identity(self, vm_id: VmId) -> Identity:
        """Return a fresh identity for a VM, with an SSH host key of its own."""
        ...
