"""Jobs that have ended hold their place on a network until their VM is gone, a moment later: that moment is waited for.

`run_and_wait` returns at the script's end. What its caller does next must not fail because of a job that is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.domain.ids import parse_job_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.context import Ports

#: Longest wait for VMs to go, and time between two looks, seconds.
PATIENCE, _LOOK = 30.0, 0.02


async def members_left(ports: Ports, network: str, concerns: Callable[[JobRecord], bool] = lambda record: True) -> None:
    """Return when no member of a network is on its way out; at once where one means to stay, or after PATIENCE.

    Args:
        concerns: which members to look at.
    """
    give_up = ports.clock.monotonic() + PATIENCE
    while ports.clock.monotonic() < give_up:
        records = [
            await ports.jobs.get(parse_job_id(member.job_id)) for member in await ports.network_store.members(network)
        ]
        there = [record for record in records if record is not None and concerns(record)]
        if not there or any(record.needs_vm for record in there):
            return
        await asyncio.sleep(_LOOK)
