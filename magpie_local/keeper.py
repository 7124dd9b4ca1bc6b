"""The keeper: an engine without a user. It drives what a process that left had to do, and ends when nothing is left.

Run as `python -m magpie_local.keeper`, with the settings in MAGPIE_* variables; `wiring.start_keeper` does. With
`--wake JOB` it first asks for a job's VM to be woken: so does a doorbell.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from magpie_local import config
from magpie_local.domain.ids import parse_job_id
from magpie_local.domain.states import Wish
from magpie_local.engine.locks import ProcessLock
from magpie_local.errors import MagpieError
from magpie_local.wiring import open_engine

if TYPE_CHECKING:
    from magpie_local.config import Settings
    from magpie_local.engine.engine import Engine

_log = logging.getLogger("magpie.keeper")

#: How often it looks whether it is still needed, seconds.
_LOOK = 1.0
#: How long it goes on trying while it can neither lead nor find another leader, seconds.
_PATIENCE = 60.0


async def keep(settings: Settings, wake: str | None = None) -> None:
    """Be the keeper of a state directory until nothing is left to drive, or leave at once where there is one.

    Args:
        settings: of the state directory.
        wake: the job whose VM is to be woken.

    Raises:
        MagpieError: this machine can't drive what is left.
    """
    lock = ProcessLock(config.layout(settings).keeper_lock)
    if wake is None and not lock.acquire():
        return
    async with open_engine(settings) as engine:
        if wake is not None:
            # Before the lock is tried: whoever holds it looks for work once more when it has let go.
            await engine.ports.wishes.ask_vm(parse_job_id(wake), Wish.WAKE)
        keeps = lock.acquire()
        await engine.open(lead=keeps)
        engine.bell.ring()
        try:
            while keeps and await _needed(engine, lock):
                await engine.bell.wait(engine.bell.listen(), _LOOK)
        finally:
            await engine.close()


async def _needed(engine: Engine, lock: ProcessLock) -> bool:
    if engine.trouble is not None and engine.role == "none":
        await _outlast(engine)
    if await engine.work_left():
        return True
    # Whoever hands over now finds the lock free, or we find its work: one of the two looks last.
    lock.release()
    return await engine.work_left() and lock.acquire()


async def _outlast(engine: Engine) -> None:
    async with asyncio.timeout(_PATIENCE):
        while engine.trouble is not None and engine.role == "none":
            await engine.bell.wait(engine.bell.listen(), _LOOK)


def main() -> int:
    """Run the keeper; what goes wrong is told in the state directory's keeper.log."""
    arguments = argparse.ArgumentParser(prog="magpie_local.keeper")
    arguments.add_argument("--wake", metavar="JOB")
    wake: str | None = arguments.parse_args().wake
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s", level="WARNING")
    try:
        asyncio.run(keep(config.load(), wake))
    except (MagpieError, TimeoutError) as error:
        _log.error("nothing is driven any more: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
