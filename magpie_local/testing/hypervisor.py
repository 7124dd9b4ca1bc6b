"""A hypervisor whose VMs are detached processes of this host. They outlive the object and its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.ids import VmId
from magpie_local.domain.vm import Accelerator, Condition, Features, VmSight
from magpie_local.errors import HostError, HypervisorTimeout, VmExists
from magpie_local.testing.faults import Faults
from magpie_local.testing.processes import descendants, is_stopped, kill_descendants, send
from magpie_local.testing.registry import Record, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from magpie_local.domain.vm import VmSpec

#: Seconds between two looks for changes.
_WATCH = 0.05
#: Seconds within which a killed VM must be gone.
_DESTROY_BUDGET = 10.0


class FakeHypervisor:
    """The Hypervisor port without a hypervisor. A VM runs the real guest agent, and scripts run on the host.

    Args:
        folder: the registry; several objects, also of several processes, may use it.
        state_id: VMs of other state directories are invisible.
        faults: what is to go wrong.
    """

    def __init__(self, folder: Path, state_id: str, faults: Faults | None = None) -> None:
        self._folder = folder
        self._registry = Registry(folder)
        self._state_id = state_id
        self.faults = faults or Faults()
        self._callbacks: list[Callable[[VmSight], None]] = []
        self._watcher: asyncio.Task[None] | None = None

    async def open(self) -> Features:
        """Make the registry's folder and begin to watch."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="fake hypervisor")
        reason = "the fake hypervisor runs scripts as processes of this host"
        return Features(connection="fake", accelerator=Accelerator.TCG, accelerator_reason=reason, version="1")

    async def close(self) -> None:
        """Stop watching; VMs go on."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])

    async def start(self, spec: VmSpec) -> None:
        """Start a VM; returns when its process runs and its control socket listens.

        Raises:
            VmExists: this id was started before and has not gone.
            HostError: the process could not be started.
        """
        if self.faults.start_error is not None:
            raise self.faults.start_error
        await asyncio.sleep(self.faults.start_delay)
        lock = self._registry.lock(spec.id)
        if lock is None:
            raise VmExists(f"The VM {spec.id} was started before.")
        record = self._record(spec)
        try:
            self._registry.write(record)
            await self._launch(record, lock)
        finally:
            os.close(lock)
        await self._maybe_hang("start")

    async def destroy(self, vm_id: VmId) -> None:
        """Kill a VM with everything in it; returns when it has gone."""
        await self._maybe_hang("destroy")
        record = self._registry.read(vm_id)
        if record is None or record.state_id != self._state_id:
            return
        lock = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DESTROY_BUDGET):
                while (lock := self._registry.lock(vm_id)) is None:
                    await self.kill(vm_id)
                    await asyncio.sleep(0.005)
        if lock is None:
            raise HypervisorTimeout(f"The fake VM {vm_id} did not end.")
        self._registry.remove(record)
        os.close(lock)

    async def sight(self, vm_id: VmId) -> VmSight:
        """Return what is known of one VM."""
        await self._maybe_hang("sight")
        return self._sight(vm_id) or VmSight(id=vm_id, attempt_id="", condition=Condition.GONE)

    async def sights(self) -> Sequence[VmSight]:
        """Return all VMs of this state directory."""
        return self._sights()

    def watch(self, callback: Callable[[VmSight], None]) -> None:
        """Call `callback` at each change."""
        self._callbacks.append(callback)

    async def kill(self, vm_id: VmId) -> None:
        """Let a VM die as QEMU does when it is killed: the guest is gone, its files stay as they are."""
        record = self._registry.read(vm_id)
        if record is not None and record.is_alive() and record.pid is not None:
            await asyncio.to_thread(_kill, record.pid)

    def pause(self, vm_id: VmId, shown: Condition = Condition.PAUSED) -> None:
        """Stop a VM where it stands; `shown` says what sight() makes of it (paused, disk error, crashed)."""
        record = self._alive(vm_id)
        self._registry.write(replace(record, shown=shown.value))
        assert record.pid is not None
        send([record.pid], signal.SIGSTOP)
        send(descendants(record.pid), signal.SIGSTOP)

    def resume(self, vm_id: VmId) -> None:
        """Let a paused VM go on."""
        record = self._alive(vm_id)
        assert record.pid is not None
        send([*descendants(record.pid), record.pid], signal.SIGCONT)

    def _alive(self, vm_id: VmId) -> Record:
        record = self._registry.read(vm_id)
        if record is None or not record.is_alive():
            raise HostError(f"The fake VM {vm_id} is not there.", hint="")
        return record

    def _record(self, spec: VmSpec) -> Record:
        return Record(
            id=spec.id, state_id=spec.state_id, attempt_id=spec.attempt_id, control=str(spec.control),
            log=str(spec.log), console=str(spec.console), boot_delay=self.faults.boot_delay,
            never_ready=self.faults.never_ready,
        )  # fmt: skip

    async def _launch(self, record: Record, lock: int) -> None:
        bare = Path(__file__).with_name("bare.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", bare, "magpie_local.testing.fakevm", self._folder, record.id, str(lock),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            pass_fds=[lock], start_new_session=True,
        )  # fmt: skip
        _, complaint = await process.communicate()
        if process.returncode != 0:
            self._registry.remove(record)
            reason = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            raise HostError(f"The fake VM could not be started: {reason}", hint="")

    async def _maybe_hang(self, call: str) -> None:
        if call in self.faults.hang:
            await asyncio.sleep(self.faults.budget)
            raise HypervisorTimeout(f"{call} did not return within {self.faults.budget} s.")

    def _sight(self, vm_id: VmId) -> VmSight | None:
        record = self._registry.read(vm_id)
        if record is None or record.state_id != self._state_id or not self._registry.is_held(vm_id):
            return None
        if record.pid is None:
            condition = Condition.STARTING
        elif not record.is_alive():
            return None
        else:
            condition = Condition(record.shown) if is_stopped(record.pid) else Condition.RUNNING
        return VmSight(id=vm_id, attempt_id=record.attempt_id, condition=condition)

    def _sights(self) -> list[VmSight]:
        found = (self._sight(VmId(vm_id)) for vm_id in self._registry.ids())
        return [sight for sight in found if sight is not None]

    async def _watch(self) -> None:
        before: dict[VmId, VmSight] = {}
        while True:
            now = {sight.id: sight for sight in self._sights()}
            changes = [sight for sight in now.values() if before.get(sight.id) != sight]
            changes += [replace(before[gone], condition=Condition.GONE) for gone in before.keys() - now.keys()]
            before = now
            for callback in () if self.faults.drop_events else self._callbacks:
                for change in changes:
                    callback(change)
            await asyncio.sleep(_WATCH)


def _kill(root: int) -> None:
    """Kill a VM's process and all below it; the stopped root adopts orphans, but starts and ends nothing."""
    send([root], signal.SIGSTOP)
    kill_descendants(root)
    send([root], signal.SIGKILL)
