"""Work on a VM that no job has, for as long as the VM lives: nobody else would notice its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from magpie_local.domain.vm import Condition
from magpie_local.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from magpie_local.domain.ids import VmId
    from magpie_local.ports.hypervisor import Hypervisor

T = TypeVar("T")

_LOOK = 0.5
_DEAD = (Condition.GONE, Condition.CRASHED, Condition.DISK_ERROR)


async def while_it_lives(
    hypervisor: Hypervisor, vm_id: VmId, work: Coroutine[None, None, T], *, budget: float, what: str
) -> T:
    """Carry out `work` and return its result; give up on it when the VM ends, or after `budget` seconds.

    Raises:
        HostError: it was given up; names `what` the VM is.
    """
    working = asyncio.create_task(work)
    dying = asyncio.create_task(_death(hypervisor, vm_id))
    try:
        await asyncio.wait({working, dying}, timeout=budget, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if dying.done():
            raise HostError(f"{what} ended before it was ready ({dying.result()}).")
        raise HostError(f"{what} was not ready within {budget:.0f} s.")
    finally:
        for task in (working, dying):
            task.cancel()
        await asyncio.gather(working, dying, return_exceptions=True)


async def _death(hypervisor: Hypervisor, vm_id: VmId) -> Condition:
    while True:
        await asyncio.sleep(_LOOK)
        # A hypervisor that does not answer for a while says nothing of the VM.
        with contextlib.suppress(HostError):
            condition = (await hypervisor.sight(vm_id)).condition
            if condition in _DEAD:
                return condition
