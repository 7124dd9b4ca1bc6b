"""The guest port: the channel to a VM's agent (wire format: domain.frames)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """What the agent says of itself."""

    state: Literal["idle", "running", "exited"]
    #: The attempt whose order it took; None while idle.
    attempt_id: str | None


class GuestSession(Protocol):
    """An open channel to one agent."""

    async def hello(self) -> GuestState:
        """Return the agent's state; waits until it answers (it does once booted).

        Raises:
            GuestLost: the channel broke.
        """
        ...

    async def run(self, order: Order) -> None:
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
