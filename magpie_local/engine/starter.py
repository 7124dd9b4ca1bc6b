"""From a claim to a script that runs: the VM, its identity, its workspace, its door, and the order.

Every step first makes its fact durable, so that recovery can go on from there whenever the engine dies.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.domain.network import GuestConfig
from magpie_local.domain.states import EventKind, VmState
from magpie_local.engine.door import open_door
from magpie_local.engine.faults import fault_point
from magpie_local.engine.network import check, connect
from magpie_local.engine.packing import Packed
from magpie_local.engine.renewal import new_renewal
from magpie_local.engine.spans import StartSpans
from magpie_local.errors import HostError, WorkspaceDamaged
from magpie_local.ports.guest import Order

if TYPE_CHECKING:
    from magpie_local.domain.vm import Accelerator
    from magpie_local.engine.bringup import BringUp
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger
    from magpie_local.engine.line import GuestLine
    from magpie_local.ports.guest import GuestAgent, GuestState, Launch


class Starter:
    """Starts one attempt.

    Args:
        ports: the world.
        ledger: the attempt.
        bring_up: makes its VM.
        accelerator: what the VM will run on.
    """

    def __init__(self, ports: Ports, ledger: Ledger, bring_up: BringUp, accelerator: Accelerator) -> None:
        self._ports = ports
        self._ledger = ledger
        self._bring_up = bring_up
        self._accelerator = accelerator
        self._spans = StartSpans()
        #: The public half of the VM's host key.
        self._host_key = bring_up.host_key
        self._network: GuestConfig | None = None
        self._connecting: asyncio.Task[GuestConfig | None] | None = None

    async def boot(self) -> None:
        """Have the VM run.

        Raises:
            SnapshotUnusable, HostDiskFull, ImageBroken, ImageNotFound, WorkspaceDamaged, HostError, OSError.
            MagpieError: this machine lacks what the job's network takes.
        """
        await check(self._ports, self._ledger.job)
        image = await self._bring_up.image()
        fault_point("J4.before")
        await self._bring_up.prepare()
        fault_point("J4.after")
        fault_point("J5.before")
        origin = self._bring_up.described(image)
        come = {"accelerator": self._accelerator.value, "start": self._bring_up.kind}
        await self._ledger.record(EventKind.VM_BOOTING, {**origin, **come}, **come)
        fault_point("J5.after")
        self._spans = StartSpans(await self._bring_up.start())
        self._connect()  # beside the guest's own coming up

    async def launch(self, line: GuestLine) -> Launch | None:
        """Reach the VM's agent and have it start the script.

        Raises:
            HostError, WorkspaceDamaged.
        """
        return await line.begin(self._ready, self._prepare, self._order)

    async def close(self) -> None:
        """Leave nothing under way."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)

    async def started(self, launch: Launch | None) -> None:
        """Enter that the script runs."""
        await self._ledger.record(EventKind.STARTED, self._spans.started(launch))

    async def _ready(self) -> None:
        if self._ledger.job.vm_state is VmState.BOOTING:
            fault_point("J8.before")
            await self._ledger.record(EventKind.VM_READY, self._spans.ready())
            fault_point("J8.after")

    async def _prepare(self, session: GuestAgent, state: GuestState) -> None:
        """Make an idle guest ready for the order; every part may be done already."""
        job = self._ledger.job
        # An earlier engine may have settled it, and have taken the knowledge of its key along.
        if not state.settled or (job.persistent and not self._host_key):
            identity = await self._ports.guest.new_identity(self._ledger.attempt.vm_id)
            await session.settle(identity, new_renewal(self._ports.clock))
            self._host_key = identity.host_key_public
            self._spans.settled()
        self._network = await self._connect()
        if self._network not in (None, self._bring_up.network):
            await session.join(self._network)
            self._spans.prepared("network")
        if job.workspace_id is not None:
            await self._mount(session, job.workspace_id)
        await self._upload(session)
        if job.persistent:
            await open_door(self._ports, job, self._ledger.attempt, session, self._host_key)
            self._spans.prepared("door")

    def _connect(self) -> asyncio.Task[GuestConfig | None]:
        if self._connecting is None:
            work = connect(self._ports, self._ledger.job, self._ledger.attempt.vm_id)
            self._connecting = asyncio.create_task(work, name="magpie network")
        return self._connecting

    async def _upload(self, session: GuestAgent) -> None:
        uploads = (await self._ports.jobs.inputs(self._ledger.job.id)).uploads
        if uploads is not None:
            packed = Packed(
                path=self._ports.layout.upload(self._ledger.job.id), size=uploads.size, crc=uploads.crc
            )  # fmt: skip
            await session.upload(packed.blocks(), size=packed.size, crc=packed.crc)
            self._spans.prepared("upload")

    async def _mount(self, session: GuestAgent, workspace_id: str) -> None:
        try:
            mounted = await session.mount(check=self._bring_up.must_check_workspace)
        except HostError as error:
            raise WorkspaceDamaged(f"The workspace {workspace_id} can't be mounted: {error.message}") from error
        self._spans.prepared("mount")
        await self._ports.workspace_use.mounted(workspace_id, mounted.fsck)
        self._spans.prepared("noted")

    async def _order(self) -> Order:
        job, attempt = self._ledger.job, self._ledger.attempt
        inputs = await self._ports.jobs.inputs(job.id)
        network = self._network or GuestConfig()
        secrets = {}
        if inputs.secrets is not None:
            secrets = await asyncio.to_thread(self._ports.vault.open, job.id, inputs.secrets)
        return Order(
            attempt_id=attempt.id,
            nonce=attempt.nonce,
            script=inputs.script,
            env={**network.env, **job.env, **secrets},
            timeout=job.timeout,
            log_limit=job.log_limit,
            renewal=new_renewal(self._ports.clock),
            persistent=job.persistent,
            mask=(*secrets.values(), *network.passwords),
            outputs=job.outputs,
            outputs_limit=job.outputs_limit,
        )
