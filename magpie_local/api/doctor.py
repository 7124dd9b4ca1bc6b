"""`magpie doctor`: what this machine must have, asked of every adapter; nothing is changed by asking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.wiring import machine_needs

if TYPE_CHECKING:
    from magpie_local.config import Settings
    from magpie_local.domain.need import Need


def examine(settings: Settings) -> list[Need]:
    """Return every need of this machine, those of the hypervisor first; may boot a probe guest, once per machine."""
    return asyncio.run(machine_needs(settings))
