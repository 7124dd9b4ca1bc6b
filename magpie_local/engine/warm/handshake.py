"""The first words with a guest's agent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from magpie_local.errors import GuestLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from magpie_local.ports.guest import Guest, GuestAgent, GuestState

_REDIAL = 0.05


@asynccontextmanager
async def conversation(guest: Guest, control: Path) -> AsyncIterator[tuple[GuestAgent, GuestState]]:
    """Yield a session whose agent has answered, and what it said; waits while nothing listens."""
    while True:
        session = None
        try:
            session = await guest.connect(control)
            state = await session.hello()
            break
        except GuestLost:
            if session is not None:
                await session.close()
            await asyncio.sleep(_REDIAL)
        except BaseException:
            if session is not None:
                await session.close()
            raise
    try:
        yield session, state
    finally:
        await session.close()
