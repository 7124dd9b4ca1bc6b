"""How a VM that is kept goes to a file, and comes back (docs/decisions/0013).

The row is the commit. As long as it says `ready`, the VM is the truth, and a file beside it is worth nothing; once it
says `asleep`, the file is, and a VM beside it never ran. So whoever finds both knows which to drop.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB, format_bytes
from magpie_local.domain.states import EventKind
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import private_folder
from magpie_local.engine.network import connect
from magpie_local.engine.renewal import new_renewal
from magpie_local.engine.teardown import destroy
from magpie_local.errors import HostDiskFull, HostError, MagpieError

if TYPE_CHECKING:
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger
    from magpie_local.engine.line import GuestLine

#: Disk space that stays free beside a VM's file, bytes.
_MARGIN = 256 * MIB


class Sleep:
    """The steps of one VM.

    Args:
        ports: the world.
        ledger: its attempt.
        line: to its agent.
        files: the attempt's.
    """

    def __init__(self, ports: Ports, ledger: Ledger, line: GuestLine, files: AttemptFiles) -> None:
        self._ports = ports
        self._ledger = ledger
        self._line = line
        self._files = files
        self._vm_id = ledger.attempt.vm_id

    async def begin(self) -> None:
        """Put the VM to sleep.

        Raises:
            HostDiskFull, HostError: it could not be done; call `go_on`.
        """
        fault_point("S1.before")
        began = self._ports.clock.monotonic()
        await asyncio.to_thread(self._check_room)
        await self._line.hang_up()
        size = await self._save()
        fault_point("S1.after")
        took = self._ports.clock.monotonic() - began
        await self._ledger.record(EventKind.VM_ASLEEP, {"bytes": size, "took": round(took, 3)})
        fault_point("S2.after")
        await destroy(self._ports.hypervisor, self._vm_id)
        fault_point("S3.after")
        await self._ports.networks.forget(self._vm_id)

    async def _save(self) -> int:
        await self._ports.sleepers.hide(self._vm_id)
        # From here on nobody who wants the VM is refused, however long the file takes.
        await self.hang_doorbell()
        await self._ports.networks.detach(self._vm_id)
        return await self._ports.sleepers.save(self._vm_id, self._files.asleep, self._ledger.job.memory_mb)

    async def hang_doorbell(self) -> None:
        """Have somebody listen at the VM's port, or at another one where that is taken.

        Raises:
            HostError: that can't be had.
        """
        port = await self._port()
        found = await self._ports.doorbells.hang(self._vm_id, self._ledger.job.id, port)
        await self._tell_port(port, found)

    async def end(self) -> None:
        """Wake the VM.

        Raises:
            SnapshotUnusable: it can never be woken again.
            HostDiskFull, HostError: it could not be done now, and the VM sleeps.
        """
        began = self._ports.clock.monotonic()
        # What a crash may have left of an earlier try never ran.
        await destroy(self._ports.hypervisor, self._vm_id)
        await asyncio.to_thread(private_folder, self._ports.layout.control(self._vm_id).parent)
        try:
            await self._load()
        except (HostDiskFull, HostError):
            await destroy(self._ports.hypervisor, self._vm_id)
            raise
        fault_point("S4.after")
        took = self._ports.clock.monotonic() - began
        await self._ledger.record(EventKind.VM_WOKEN, {"took": round(took, 3)})
        fault_point("S5.after")
        await self.go_on()

    async def _load(self) -> None:
        job, attempt = self._ledger.job, self._ledger.attempt
        await self._ports.sleepers.load(self._vm_id, attempt.id, self._files.asleep, job.memory_mb)

    async def go_on(self) -> None:
        """Let a VM that was to sleep, or that is just about to wake, run and be reached; one that does stays so.

        Raises:
            HostError: it has gone, or can't go on.
        """
        await self._ports.vms.resume(self._vm_id)
        fault_point("S6.after")
        # Its disks change from now on.
        await asyncio.to_thread(self._files.asleep.unlink, missing_ok=True)
        if not await self._line.renew(new_renewal(self._ports.clock)):
            await self._ledger.note("the guest did not answer after it had slept: its clock may be late")
        # Not before it runs: QEMU asks a guest that is silent for 6 s before it asks again.
        await self._open()
        with contextlib.suppress(MagpieError):  # it goes on without; its network is mended when that is possible
            network = await connect(self._ports, self._ledger.job, self._vm_id)
            if network is not None:
                await self._line.join(network)

    async def _open(self) -> None:
        """Have the VM itself reached at its port again."""
        await self._ports.doorbells.make_way(self._vm_id)
        wished = await self._port()
        try:
            port = await self._ports.vms.expose(self._vm_id, wished)
        except HostError:  # somebody else has taken it meanwhile
            port = await self._ports.vms.expose(self._vm_id)
        await self._tell_port(wished, port)

    async def was_begun(self) -> bool:
        """Whether an earlier engine has begun to put the VM to sleep, or has not ended to wake it."""
        traces = (self._files.asleep, self._ports.layout.doorbell(self._vm_id))
        return await asyncio.to_thread(lambda: any(trace.exists() for trace in traces))

    def _check_room(self) -> None:
        needed = self._ledger.job.memory_mb * MIB + _MARGIN
        free = shutil.disk_usage(self._files.folder).free
        if free < needed:
            raise HostDiskFull(
                f"A VM of {self._ledger.job.memory_mb} MiB may take {format_bytes(needed)} to sleep, and "
                f"{format_bytes(free)} are free."
            )

    async def _port(self) -> int:
        door = await asyncio.to_thread(self._ports.doors.find, self._ledger.job.id)
        if door is None:
            raise HostError(f"The door of job {self._ledger.job.id} has gone.", hint="")
        return door.target.port

    async def _tell_port(self, before: int, port: int) -> None:
        if port == before:
            return
        door = await asyncio.to_thread(self._ports.doors.find, self._ledger.job.id)
        assert door is not None
        await asyncio.to_thread(
            self._ports.doors.write, self._ledger.job.id, port=port, host_key=door.target.host_key
        )  # fmt: skip
        await self._ledger.note(f"port {before} is somebody else's now; ssh is at {port}")
