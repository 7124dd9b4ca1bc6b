"""The line to one guest's agent: dialled again whenever it breaks, until the agent has told the script's end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from magpie_local.errors import GuestLost, HostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from magpie_local.domain.identity import Renewal
    from magpie_local.domain.network import GuestConfig
    from magpie_local.engine.evidence import Evidence
    from magpie_local.ports.guest import Guest, GuestAgent, GuestState, Launch, Order

#: Seconds between two tries to reach a booting guest, and one whose line broke.
_REDIAL, _REDIAL_RUNNING = 0.1, 0.25


#: Seconds for a guest to take notice of its network.
_JOIN_BUDGET = 10.0
#: Seconds for a guest that has stood still to take notice of the time: those who want it wait meanwhile.
_RENEW_BUDGET = 5.0
#: Seconds for a guest to come to its end, beyond the grace of its processes.
_HALT_BUDGET = 10.0


class GuestLine:
    """What the engine says to one agent and hears from it.

    Args:
        guest: opens channels.
        control: the VM's control socket.
        attempt_id: whose VM it is.
        news: set whenever something changed that a waiter should look at.
    """

    def __init__(self, guest: Guest, control: Path, attempt_id: str, news: asyncio.Event) -> None:
        self._guest = guest
        self._control = control
        self._attempt_id = attempt_id
        self._news = news
        self._session: GuestAgent | None = None
        self._interrupt: asyncio.Task[None] | None = None
        #: The agent said that its exit record is written, or the record was found.
        self.exited = False
        #: The guest has unmounted its workspace before it went.
        self.halted_clean = False

    async def begin(
        self, ready: Callable[[], Awaitable[None]],
        prepare: Callable[[GuestAgent, GuestState], Awaitable[None]], order: Callable[[], Awaitable[Order]],
    ) -> Launch | None:  # fmt: skip
        """Reach the agent and have it start the script; once at most, by the agent's own rule.

        Args:
            ready: called whenever the agent has answered.
            prepare: makes an idle guest ready for the order, by what it has said of itself.
            order: returns what it is to do, if it does not do it already.

        Returns:
            How the start went; None where the script was started before.

        Raises:
            HostError: it refuses, or works for another attempt.
        """
        while True:
            try:
                state = await self._dial()
                await ready()
                if state.state == "idle":
                    await prepare(self._live(), state)
                    return await self._live().run(await order())
                if state.attempt_id != self._attempt_id:
                    raise HostError(f"The VM of {self._attempt_id} runs {state.attempt_id}.")
                self.exited = state.state == "exited"
                return None
            except GuestLost:
                await asyncio.sleep(_REDIAL)

    async def listen(self, evidence: Callable[[], Awaitable[Evidence]]) -> None:
        """Return when the script has ended: the agent says so, or, while the line is down, its record is there."""
        while not self.exited:
            try:
                if self._session is not None or (await self._dial()).state != "exited":
                    await self._live().exited()
                self.exited = True
            except GuestLost:
                await self.hang_up()
                self.exited = (await evidence()).exit is not None
                await asyncio.sleep(_REDIAL_RUNNING)
        self._news.set()

    async def stop(self, grace: float) -> bool:
        """Ask the agent to stop the script; return whether the wish got through."""
        if self._session is not None:
            with contextlib.suppress(GuestLost):
                await self._session.stop(grace)
                return True
        return False

    def interrupt(self) -> bool:
        """Have the agent send SIGINT to the script, without waiting for that; return whether it can be told."""
        if self._session is None:
            return False
        self._interrupt = asyncio.create_task(self._send_interrupt(self._session))
        return True

    async def _send_interrupt(self, session: GuestAgent) -> None:
        with contextlib.suppress(GuestLost):
            await session.interrupt()

    async def join(self, network: GuestConfig) -> bool:
        """Tell the guest of its network again; return whether it could be reached."""
        with contextlib.suppress(GuestLost, HostError, TimeoutError):
            async with asyncio.timeout(_JOIN_BUDGET):
                if self._session is None:
                    await self._dial()
                await self._live().join(network)
                return True
        await self.hang_up()
        return False

    async def renew(self, renewal: Renewal) -> bool:
        """Tell a guest that has stood still what time it is; return whether it could be reached."""
        with contextlib.suppress(GuestLost, HostError, TimeoutError):
            async with asyncio.timeout(_RENEW_BUDGET):
                await self._dial()
                await self._live().renew(renewal)
                return True
        await self.hang_up()
        return False

    async def halt(self, grace: float) -> None:
        """Have the guest end its processes and let go of its disks, as far as it does so in time."""
        with contextlib.suppress(GuestLost, HostError, TimeoutError):
            async with asyncio.timeout(grace + _HALT_BUDGET):
                if self._session is None:
                    await self._dial()
                self.halted_clean = await self._live().halt(grace) == "clean"
        await self.hang_up()

    async def hang_up(self) -> None:
        """Leave the channel; the guest goes on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _dial(self) -> GuestState:
        await self.hang_up()
        self._session = await self._guest.connect(self._control)
        self._news.set()
        return await self._session.hello()

    def _live(self) -> GuestAgent:
        if self._session is None:
            raise GuestLost
        return self._session
