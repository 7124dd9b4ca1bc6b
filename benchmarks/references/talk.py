"""What is said to our own guest's agent by a host that is nothing but QEMU."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable
from magpie_local.domain.frames import EXIT, STDERR, STDOUT, LogReader
from magpie_local.domain.identity import ENTROPY_SIZE, Renewal
from magpie_local.domain.sizes import MIB
from magpie_local.errors import GuestLost, MagpieError
from magpie_local.guest.channel import AgentGuest
from magpie_local.ports.guest import Order

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from magpie_local.domain.identity import Identity
    from magpie_local.guest.channel import AgentSession
    from magpie_local.ports.guest import GuestState

#: Seconds for a guest to boot and answer.
LIMIT = 120.0

_AGAIN = 0.002
_HELLO_AGAIN = 0.02
_LINE = b"hello\n"
_SCRIPT = b"echo hello"


@asynccontextmanager
async def agent(
    process: subprocess.Popen[bytes], control: Path, wake: Callable[[], Awaitable[object]] | None = None
) -> AsyncIterator[AgentSession]:
    """Yield the session of an agent that has answered.

    Args:
        process: the guest's QEMU.
        control: the socket of its control port.
        wake: lets a paused guest go on; None where it is booting.

    Raises:
        ReferenceUnavailable: QEMU ended, the guest took too long, or what was said to its agent failed.
    """
    try:
        async with asyncio.timeout(LIMIT):
            session = await _dial(process, control)
            try:
                if wake is None:
                    await session.hello()
                else:
                    await wake()
                    await _hello_at_once(session)
                yield session
            finally:
                await session.close()
    except TimeoutError:
        raise ReferenceUnavailable(f"the guest was not done within {LIMIT:.0f} s") from None
    except MagpieError as error:
        raise ReferenceUnavailable(f"the guest's agent: {error.message}") from error


async def first_line(session: AgentSession, identity: Identity, log: Path) -> None:
    """Have the agent run a script, as a job's VM does; returns at its first output line."""
    await session.settle(identity, renewal())
    order = Order(
        attempt_id="reference", nonce=uuid.uuid4().hex, script=_SCRIPT, env={}, timeout=None, log_limit=MIB,
        renewal=renewal(),
    )  # fmt: skip
    await session.run(order)
    reader = LogReader()
    with log.open("rb") as file:
        while True:
            for kind, _, payload in reader.feed(file.read()):
                if kind == STDOUT and payload == _LINE:
                    return
                if kind in (STDOUT, STDERR, EXIT):
                    raise ReferenceUnavailable(f"the guest wrote a frame of kind {kind} first: {payload[:200]!r}")
            await asyncio.sleep(_AGAIN)


def renewal() -> Renewal:
    """Return fresh randomness and the time."""
    return Renewal(now=time.time(), entropy=os.urandom(ENTROPY_SIZE))


async def _hello_at_once(session: AgentSession) -> None:
    """Wait for the first answer of an agent that runs already.

    A guest learns of data and of the connection that they came through by different ways. Where the data are first, its
    answer goes nowhere, as to its kernel nobody is connected: so ask again soon, and not only when the session would.
    """
    asked: set[asyncio.Task[GuestState]] = set()
    try:
        while True:
            asked.add(asyncio.create_task(session.hello()))
            done, _ = await asyncio.wait(asked, timeout=_HELLO_AGAIN, return_when=asyncio.FIRST_COMPLETED)
            if done:
                done.pop().result()
                return
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _dial(process: subprocess.Popen[bytes], control: Path) -> AgentSession:
    while process.poll() is None:
        try:
            return await AgentGuest().connect(control)
        except GuestLost:
            await asyncio.sleep(_AGAIN)
    raise ReferenceUnavailable(f"QEMU ended with code {process.returncode}")
