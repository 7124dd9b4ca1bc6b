"""The door of a persistent VM: sshd in it, a port of this machine's loopback, a key pair for this VM alone (F102)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.engine.context import Ports
    from magpie_local.ports.guest import GuestServices


async def open_door(ports: Ports, job: JobRecord, attempt: Attempt, agent: GuestServices, host_key: str) -> None:
    """Let the owner of a job into its VM; every part may be done already.

    Args:
        ports: the world.
        job: whose VM it is.
        attempt: which VM.
        agent: the VM's.
        host_key: the public half that the VM was given (Identity), which its door is pinned to.

    Raises:
        HostError: the VM has no such port, or its sshd does not start.
    """
    authorized = await asyncio.to_thread(ports.doors.prepare, job.id)
    port = await ports.vms.expose(attempt.vm_id)
    await agent.open_ssh(authorized)
    await asyncio.to_thread(ports.doors.write, job.id, port=port, host_key=host_key)
