"""Fake VMs that sleep: what comes back is a VM with a new agent, as a fake fork is."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, replace
from time import monotonic
from typing import TYPE_CHECKING

from magpie_local.domain.vm import StartTimes
from magpie_local.errors import HostError, SnapshotUnusable
from magpie_local.testing.registry import Record

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.testing.hypervisor import FakeHypervisor


class FakeSleepers:
    """The Sleepers port.

    Args:
        hypervisor: whose VMs they are.
    """

    def __init__(self, hypervisor: FakeHypervisor) -> None:
        self._hypervisor = hypervisor
        #: How many connections each VM has, where a test says so.
        self.connections: dict[VmId, int] = {}

    async def visitors(self, vm_id: VmId) -> int:
        """Return what a test has set."""
        self._hypervisor.record(vm_id)
        return self.connections.get(vm_id, 0)

    async def hide(self, vm_id: VmId) -> None:
        """Close a VM's port."""
        self._hypervisor.hide(vm_id)

    async def save(self, vm_id: VmId, file: Path, memory_mb: int) -> int:
        """Pause a VM, and write what it is made of.

        Raises:
            HostDiskFull, HostError, HypervisorTimeout: as a test has set.
        """
        record = self._hypervisor.record(vm_id)
        await self._hypervisor.pause(vm_id)
        faults = self._hypervisor.faults
        if faults.save_error is not None:
            raise faults.save_error
        known = replace(record, pid=None, started=None, boot_delay=0.0, shown="paused", held=False)
        text = json.dumps({"record": asdict(known), "disks": self._hypervisor.disks(vm_id), "memory_mb": memory_mb})
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
        return len(text)

    async def load(self, vm_id: VmId, attempt_id: str, file: Path, memory_mb: int) -> StartTimes:
        """Start a VM, paused, of what was written.

        Raises:
            SnapshotUnusable: the file is missing or damaged.
            VmExists: the VM is there.
            HostError: as a test has set.
        """
        began = monotonic()
        if self._hypervisor.faults.load_error is not None:
            raise self._hypervisor.faults.load_error
        try:
            known = json.loads(await asyncio.to_thread(file.read_bytes))
            record = Record(**known["record"] | {"plugged": tuple(known["record"]["plugged"])})
            fits = (record.id, record.attempt_id, known["memory_mb"]) == (vm_id, attempt_id, memory_mb)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SnapshotUnusable(f"The fake VM {vm_id} can't be woken: {error}.", hint="") from None
        if not fits:
            raise SnapshotUnusable(f"The fake VM {vm_id} can't be woken: that is another one's file.", hint="")
        await self._hypervisor.bring_back(record, known["disks"])
        return StartTimes(create=monotonic() - began)


class FakeDoorbells:
    """The Doorbells port: notes where one would listen."""

    def __init__(self) -> None:
        #: Port by VM.
        self.hung: dict[VmId, int] = {}
        #: Raised by hang().
        self.error: HostError | None = None

    async def hang(self, vm_id: VmId, job_id: JobId, port: int) -> int:
        """Note it."""
        if self.error is not None:
            raise self.error
        return self.hung.setdefault(vm_id, port)

    async def make_way(self, vm_id: VmId) -> None:
        """Note it."""
        self.hung.pop(vm_id, None)

    async def remove(self, vm_id: VmId) -> None:
        """Note it."""
        self.hung.pop(vm_id, None)
