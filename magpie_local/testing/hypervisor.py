"""A hypervisor whose VMs are detached processes of this host. They outlive the object and its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from magpie_local.domain.ids import VmId
from magpie_local.domain.vm import Accelerator, Condition, Features, RamFile, Snapshot, StartTimes, VmSight
from magpie_local.errors import HostError, HypervisorTimeout, VmExists
from magpie_local.testing.faults import Faults
from magpie_local.testing.processes import descendants, is_stopped, kill_tree, send, stop_tree
from magpie_local.testing.registry import Record, Registry
from magpie_local.testing.snapshots import check_snapshot, make_memory, save_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from magpie_local.domain.vm import Disk, VmSpec

#: Seconds between two looks for changes.
_WATCH = 0.05
#: Seconds within which a killed VM must be gone.
_DESTROY_BUDGET = 10.0
#: Disks that can be added to a VM that runs: as many as the real ones have slots for.
_SLOTS = 2


class FakeHypervisor:
    """The Hypervisor and LiveVms ports without a hypervisor.

    A VM runs the real guest agent, and scripts run on the host.

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
        #: VMs that end with us.
        self._held: set[VmId] = set()
        #: What listens in the place of VMs' ssh, while we are open.
        self._exposed: dict[VmId, socket.socket] = {}

    async def open(self) -> Features:
        """Make the registry's folder and begin to watch."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="fake hypervisor")
        reason = "the fake hypervisor runs scripts as processes of this host"
        return Features(
            connection="fake", accelerator=Accelerator.TCG, accelerator_reason=reason, version="1",
            fingerprint=self.faults.fingerprint,
        )  # fmt: skip

    async def close(self) -> None:
        """Stop watching; VMs go on, but for held ones."""
        for vm_id in tuple(self._held):
            await self._end(vm_id)
        while self._exposed:
            self._exposed.popitem()[1].close()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])

    async def start(self, spec: VmSpec) -> StartTimes:
        """Start a VM; returns when its process runs and its control socket listens.

        A fork is a VM with a new agent: all that it has of its template is that it needs no time to boot.

        Raises:
            VmExists: this id was started before and has not gone.
            SnapshotUnusable: the snapshot's files are not whole.
            HostError: the process could not be started.
        """
        began = monotonic()
        snapshot = spec.memory if isinstance(spec.memory, Snapshot) else None
        await self._fail_to_start(is_fork=snapshot is not None)
        if snapshot is not None:
            check_snapshot(snapshot, spec.memory_mb)
        lock = self._registry.lock(spec.id)
        if lock is None:
            raise VmExists(f"The VM {spec.id} was started before.")
        record = self._record(spec)
        try:
            if isinstance(spec.memory, RamFile):
                make_memory(spec.memory.path, spec.id, spec.memory_mb)
            self._registry.write(record)
            for disk in spec.disks:
                self._registry.attach(spec.id, disk.serial, disk.path)
            await self._launch(record, lock)
        finally:
            os.close(lock)
        if spec.held:
            self._held.add(spec.id)
        await self._maybe_hang("start")
        if snapshot is not None:
            await self._maybe_hang("fork")
        return StartTimes(create=monotonic() - began)

    async def destroy(self, vm_id: VmId) -> None:
        """Kill a VM with everything in it; returns when it has gone."""
        await self._maybe_hang("destroy")
        await self._end(vm_id)

    async def _end(self, vm_id: VmId) -> None:
        self._held.discard(vm_id)
        if vm_id in self._exposed:
            self._exposed.pop(vm_id).close()
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
            await asyncio.to_thread(kill_tree, record.pid)

    async def pause(self, vm_id: VmId, shown: Condition = Condition.PAUSED) -> None:
        """Stop a VM where it stands; its clock goes on. `shown` says what sight() makes of it.

        Raises:
            HostError: there is no such VM.
        """
        await self._maybe_hang("pause")
        record, pid = self._alive(vm_id)
        self._registry.write(replace(record, shown=shown.value))
        await asyncio.to_thread(stop_tree, pid)

    async def resume(self, vm_id: VmId) -> None:
        """Let a paused VM go on, and outlive this object.

        Raises:
            HostError: there is no such VM, or it is frozen.
        """
        await self._maybe_hang("resume")
        record, pid = self._alive(vm_id)
        if record.frozen:
            raise HostError(f"The fake VM {vm_id} is frozen.", hint="")
        self._held.discard(vm_id)
        self._registry.write(replace(record, held=False))
        send([*descendants(pid), pid], signal.SIGCONT)

    async def freeze(self, vm_id: VmId, devices: Path) -> None:
        """Stop a VM for good, and make the file that stands for its device state.

        Raises:
            HostError: there is no such VM, or its memory is not in a file.
        """
        if self.faults.freeze_error is not None:
            raise self.faults.freeze_error
        await self._maybe_hang("freeze")
        record, pid = self._alive(vm_id)
        if record.ram is None:
            raise HostError(f"The fake VM {vm_id} has its memory in no file.", hint="")
        self._registry.write(replace(record, frozen=True))
        await asyncio.to_thread(stop_tree, pid)
        save_devices(devices, Path(record.ram))

    async def plug(self, vm_id: VmId, disk: Disk) -> None:
        """Note that a VM was given one more disk; its guest sees nothing of it, unless the disk has a serial.

        Raises:
            HostError: there is no such VM, no slot left, or no such disk.
        """
        await self._maybe_hang("plug")
        record, _ = self._alive(vm_id)
        if len(record.plugged) == _SLOTS:
            raise HostError(f"The fake VM {vm_id} has no slot left for another disk.", hint="")
        if not disk.path.is_file():
            raise HostError(f"There is no disk {disk.path}.", hint="")
        self._registry.attach(vm_id, disk.serial, disk.path)
        self._registry.write(replace(record, plugged=(*record.plugged, str(disk.path))))

    async def expose(self, vm_id: VmId, port: int = 0) -> int:
        """Return a port of the host's loopback at which nothing but silence listens.

        Raises:
            HostError: there is no such VM.
        """
        await self._maybe_hang("expose")
        self._alive(vm_id)
        if vm_id not in self._exposed:
            try:
                self._exposed[vm_id] = socket.create_server(("127.0.0.1", port))
            except OSError as error:
                raise HostError(f"Port {port} can't be had: {error.strerror}.", hint="") from error
        found: int = self._exposed[vm_id].getsockname()[1]
        return found

    def hide(self, vm_id: VmId) -> None:
        """Close that port."""
        self._alive(vm_id)
        if vm_id in self._exposed:
            self._exposed.pop(vm_id).close()

    def record(self, vm_id: VmId) -> Record:
        """Return what is known of a VM of ours that is there.

        Raises:
            HostError: there is none.
        """
        return self._alive(vm_id)[0]

    async def bring_back(self, record: Record, disks: Mapping[str, str]) -> None:
        """Start a VM, paused, in the place of one that has gone.

        Raises:
            VmExists: it has not.
            HostError: the process could not be started.
        """
        lock = self._registry.lock(record.id)
        if lock is None:
            raise VmExists(f"The VM {record.id} is there.")
        try:
            self._registry.write(record)
            for serial, path in disks.items():
                self._registry.attach(record.id, serial, Path(path))
            await self._launch(record, lock)
        finally:
            os.close(lock)
        await self.pause(VmId(record.id))

    def disks(self, vm_id: VmId) -> dict[str, str]:
        """Return a VM's disks by their serials."""
        folder = self._registry.disks(vm_id)
        return {link.name: str(link.readlink()) for link in folder.iterdir()} if folder.is_dir() else {}

    def plugged(self, vm_id: VmId) -> list[Path]:
        """Return the disks that a VM was given while it ran, in order."""
        return [Path(path) for path in self._alive(vm_id)[0].plugged]

    def _alive(self, vm_id: VmId) -> tuple[Record, int]:
        """Return the record and the process of a VM of ours."""
        record = self._registry.read(vm_id)
        if record is None or record.pid is None or record.state_id != self._state_id or not record.is_alive():
            raise HostError(f"There is no fake VM {vm_id}.", hint="")
        return record, record.pid

    async def _fail_to_start(self, *, is_fork: bool) -> None:
        if self.faults.start_error is not None:
            raise self.faults.start_error
        if is_fork and self.faults.fork_error is not None:
            raise self.faults.fork_error
        await asyncio.sleep(self.faults.start_delay + (self.faults.fork_delay if is_fork else 0.0))

    def _record(self, spec: VmSpec) -> Record:
        is_fork = isinstance(spec.memory, Snapshot)
        return Record(
            id=spec.id, state_id=spec.state_id, attempt_id=spec.attempt_id, control=str(spec.control),
            log=str(spec.log), console=str(spec.console), boot_delay=0.0 if is_fork else self.faults.boot_delay,
            never_ready=self.faults.fork_silent if is_fork else self.faults.never_ready, held=spec.held,
            ram=str(spec.memory.path) if isinstance(spec.memory, RamFile) else None,
            outputs=None if spec.outputs is None else str(spec.outputs),
        )  # fmt: skip

    async def _launch(self, record: Record, lock: int) -> None:
        bare = Path(__file__).with_name("bare.py")
        owner = os.pidfd_open(os.getpid()) if record.held else -1
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", bare, "magpie_local.testing.fakevm", self._folder, record.id, str(lock),
                str(owner), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE, pass_fds=[lock] if owner < 0 else [lock, owner],
                start_new_session=True,
            )  # fmt: skip
        finally:
            if owner >= 0:
                os.close(owner)
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
