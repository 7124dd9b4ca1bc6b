"""VMs that a full disk of the host has paused: they go on where there is room again, with nothing lost (F73)."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from magpie_local.domain.states import EventKind, VmState

if TYPE_CHECKING:
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger

#: Free space with which a VM goes on, bytes.
_ROOM = 64 * 1024 * 1024


async def resume_with_room(ports: Ports, ledger: Ledger) -> bool:
    """Let the attempt's VM go on if there is room now; return whether it does. Tells of both in the story, once."""
    if ledger.job.vm_state is VmState.READY:
        text = "the host's disk is full; it goes on when there is room"
        await ledger.record(EventKind.VM_PAUSED, {"text": text})
    if await asyncio.to_thread(lambda: shutil.disk_usage(ports.layout.workspaces).free) < _ROOM:
        return False
    await ports.vms.resume(ledger.attempt.vm_id)
    await ledger.record(EventKind.VM_RESUMED)
    return True
