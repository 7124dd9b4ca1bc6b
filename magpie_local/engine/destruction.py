"""The end of a VM, however often it takes to be asked for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from magpie_local.errors import HostError

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId
    from magpie_local.ports.hypervisor import Hypervisor

_log = logging.getLogger("magpie.engine")

#: Seconds until it is asked for again: at first, and at most.
_SOON, _LATE = 0.5, 30.0


async def destroy(hypervisor: Hypervisor, vm_id: VmId) -> None:
    """Return when a VM is gone; one that is gone already is fine."""
    delay = _SOON
    while True:
        try:
            return await hypervisor.destroy(vm_id)
        except HostError as error:
            _log.warning("VM %s is not gone yet: %s", vm_id, error, extra={"action": "destroy_failed"})
        await asyncio.sleep(delay)
        delay = min(2 * delay, _LATE)
