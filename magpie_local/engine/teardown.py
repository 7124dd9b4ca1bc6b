"""The last steps of an attempt: its VM goes, and what only that needed. Every part may be done already."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from magpie_local.domain.states import EventKind, VmState
from magpie_local.engine.evidence import gather
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import remove_leftovers
from magpie_local.errors import HostError

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger
    from magpie_local.engine.line import GuestLine
    from magpie_local.ports.hypervisor import Hypervisor

_log = logging.getLogger("magpie.engine")

#: Seconds until a VM's end is asked for again: at first, and at most.
_SOON, _LATE = 0.5, 30.0


async def tear_down(ports: Ports, ledger: Ledger, line: GuestLine, files: AttemptFiles, *, grace: float | None) -> None:
    """Take an attempt's VM away, with what only it needed.

    Args:
        ports: the world.
        ledger: the attempt.
        line: to its agent.
        files: the attempt's.
        grace: seconds in which a guest that goes on may end well; None where it has ended, or need not.
    """
    vm_id = ledger.attempt.vm_id
    if ledger.job.vm_state.is_alive and ledger.job.vm_state is not VmState.STOPPING:
        await ledger.record(EventKind.VM_STOPPING)
    fault_point("J12.before")
    if grace is not None:
        await line.halt(grace)
    await destroy(ports.hypervisor, vm_id)
    fault_point("J12.after")
    await _release_workspace(ports, ledger, line, files)
    await ports.networks.forget(vm_id)
    await ports.doorbells.remove(vm_id)
    if ledger.job.persistent:
        await asyncio.to_thread(ports.doors.remove, ledger.job.id)
    # Cleaned up before the end is recorded: what is recorded as gone is never looked at again.
    await asyncio.to_thread(remove_leftovers, files, ports.layout.control(vm_id))
    fault_point("J14.before")
    if ledger.job.vm_state is VmState.STOPPING:
        await ledger.record(EventKind.VM_GONE)
    fault_point("J14.after")
    ledger.changed()


async def destroy(hypervisor: Hypervisor, vm_id: VmId) -> None:
    """Return when a VM is gone, however often that must be asked for; one that is gone already is fine."""
    delay = _SOON
    while True:
        try:
            return await hypervisor.destroy(vm_id)
        except HostError as error:
            _log.warning("VM %s is not gone yet: %s", vm_id, error, extra={"action": "destroy_failed"})
        await asyncio.sleep(delay)
        delay = min(2 * delay, _LATE)


async def _release_workspace(ports: Ports, ledger: Ledger, line: GuestLine, files: AttemptFiles) -> None:
    """Note how the VM has let go of its workspace; where nobody knows, the next one checks it first."""
    workspace_id = ledger.job.workspace_id
    if workspace_id is None:
        return
    evidence = await asyncio.to_thread(gather, files, ledger.attempt.nonce)
    ends = [record.workspace for record in (evidence.exit, evidence.halt) if record is not None]
    clean = line.halted_clean or "clean" in ends
    await ports.workspace_use.released(workspace_id, clean=clean)
