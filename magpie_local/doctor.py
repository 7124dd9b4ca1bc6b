"""What this machine must have to run jobs, asked of every adapter; nothing is changed by asking."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from magpie_local.wiring import machine_needs

if TYPE_CHECKING:
    from magpie_local.config import Settings
    from magpie_local.domain.need import Need


def examine(settings: Settings) -> list[Need]:
    """Return every need of this machine, those of the hypervisor first; may boot a probe guest, once per machine.

    Blocks; also where a loop runs already, as in a notebook's cell.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(machine_needs(settings))
    with ThreadPoolExecutor(1, thread_name_prefix="magpie doctor") as beside:
        return beside.submit(lambda: asyncio.run(machine_needs(settings))).result()
