"""The Hypervisor port on libvirt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from magpie_local.domain.ids import VmId
from magpie_local.domain.sizes import MIB
from magpie_local.domain.vm import SSH_WAY, Condition, Features, RamFile, Snapshot, StartTimes, VmSight
from magpie_local.errors import (
    HostDiskFull,
    HostError,
    HypervisorTimeout,
    HypervisorUnavailable,
    SnapshotUnusable,
    VmExists,
)
from magpie_local.hypervisor import accel, capabilities, place
from magpie_local.hypervisor.channel import ChannelLost, LibvirtError
from magpie_local.hypervisor.connection import OPEN_BUDGET, Connection
from magpie_local.hypervisor.domain_xml import disk_xml, domain_name, domain_xml, machine_of
from magpie_local.hypervisor.files import claim, make_new
from magpie_local.hypervisor.fingerprint import fingerprint
from magpie_local.hypervisor.host import METADATA, NO_DOMAIN
from magpie_local.hypervisor.processes import Exits
from magpie_local.hypervisor.refusals import doing, handle_error, start_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from magpie_local.domain.vm import Disk, VmSpec
    from magpie_local.ports.images import Images

#: Seconds. A start takes 0.1 s; QEMU that hangs is killed by libvirt only after 12 s (F46).
_START_BUDGET = 60.0
_DESTROY_BUDGET = 60.0
_HANDLE_BUDGET = 45.0
#: A template's whole memory may have to reach the disk.
_FREEZE_BUDGET = 300.0
#: The host's verbs in words, where they differ.
#: More than the 30 s that libvirt itself waits for the monitor of a QEMU that has died.
_LOOK_BUDGET = 45.0
#: The first look at a new QEMU binary takes 2-8 s.
_PROBE_BUDGET = 120.0


class LibvirtHypervisor:
    """VMs of one state directory under libvirt.

    Args:
        folder: libvirt's own files: the embed root, a short path (sockets lie below it).
        state_id: marks our VMs; those of other state directories are invisible.
        images: the image whose kernel proves KVM.
        cache: what may be kept between state directories (QEMU's capabilities, the verdict on KVM).
        uri: a connection of the user's own; None chooses.
        accelerator: auto, kvm or tcg.
    """

    def __init__(
        self, folder: Path, state_id: str, *, images: Images, cache: Path, uri: str | None = None,
        accelerator: str = "auto",
    ) -> None:  # fmt: skip
        self._folder = folder
        self._state_id = state_id
        self._images = images
        self._cache = cache
        self._uri = uri
        self._wish = accelerator
        self._connection: Connection | None = None
        self._features: Features | None = None
        self._emulator = ""
        #: VMs that end with us. Shared with the connection, whose hosts see to it.
        self._held: set[str] = set()
        self._plugging = asyncio.Lock()
        self._logs: Path | None = None
        self._callbacks: list[Callable[[VmSight], None]] = []
        self._attempts: dict[str, str] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._exits = Exits(lambda vm_id: self._report(Condition.GONE, vm_id))

    async def open(self) -> Features:
        """Connect, and prove which accelerator works.

        Raises:
            HypervisorUnavailable: libvirt or QEMU is missing or refuses, or KVM was demanded and does not work.
        """
        if self._features is not None:
            return self._features
        self._emulator = emulator_path()
        where = await asyncio.to_thread(self._prepare)
        connection = Connection(where, self._tell)
        connection.held = self._held
        try:
            await connection.call("list", budget=OPEN_BUDGET)
            await self._learn(connection, where)
            verdict = await accel.choose(self._wish, self._emulator, self._images, self._cache)
        except LibvirtError as error:
            await connection.close()
            raise HypervisorUnavailable(f"libvirt refuses {where.label}: {error}.") from error
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._logs = where.logs
        self._features = Features(
            connection=where.label,
            accelerator=verdict.accelerator,
            accelerator_reason=verdict.reason,
            version=f"QEMU {_dotted(connection.versions['qemu'])}, libvirt {_dotted(connection.versions['libvirt'])}",
            fingerprint=await asyncio.to_thread(fingerprint, self._emulator, connection.versions, verdict.accelerator),
        )
        return self._features

    async def close(self) -> None:
        """Leave libvirt; VMs go on."""
        self._exits.close()
        self._features = None
        self._held.clear()
        # QEMU has exited already where one of these is still there: libvirt tidies up with us or at the next open.
        for ending in self._ending.values():
            ending.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def start(self, spec: VmSpec) -> StartTimes:
        """Start a VM; returns when it runs.

        Raises:
            VmExists, SnapshotUnusable, HostDiskFull, HostError.
            HypervisorTimeout: the outcome is unknown: ask sight.
        """
        assert self._features is not None, "open() comes first"
        xml = domain_xml(spec, self._features.accelerator, self._emulator)
        await asyncio.to_thread(_claim_files, spec)
        self._attempts[spec.id] = spec.attempt_id
        if spec.held:
            self._held.add(spec.id)
        try:
            times = await self._bring_up(spec, xml)
        except ChannelLost:
            raise HypervisorTimeout(f"libvirt went away while it started the VM {spec.id}.", hint="") from None
        except LibvirtError as error:
            refusal = start_error(spec.id, error)
            if not isinstance(refusal, VmExists):
                self._forget(spec.id)
                await asyncio.to_thread(_drop_memory, spec)
            raise refusal from error
        with contextlib.suppress(OSError):
            os.chmod(spec.control, 0o600)
        await self._exits.watch([spec.id])
        return StartTimes(create=times[0], load=times[1], resume=times[2])

    async def pause(self, vm_id: VmId) -> None:
        """Stop a VM's CPUs.

        Raises:
            HostError, HypervisorTimeout.
        """
        await self.handle("pause", vm_id)

    async def resume(self, vm_id: VmId) -> None:
        """Let a paused VM go on, and outlive the engine.

        Raises:
            HostError, HypervisorTimeout.
        """
        await self.handle("resume", vm_id)
        self._held.discard(vm_id)

    async def freeze(self, vm_id: VmId, devices: Path) -> None:
        """Pause a VM for good and write its device state; libvirt's host syncs that, its memory and its disks.

        Raises:
            HostDiskFull, HostError, HypervisorTimeout.
        """
        await asyncio.to_thread(make_new, devices)
        try:
            await self.handle("freeze", vm_id, str(devices), budget=_FREEZE_BUDGET)
        except (HostDiskFull, HostError):
            await asyncio.to_thread(devices.unlink, missing_ok=True)
            raise

    async def plug(self, vm_id: VmId, disk: Disk) -> None:
        """Give a running VM one more disk.

        Raises:
            HostError, HypervisorTimeout.
        """
        # One at a time: each takes the first free name.
        async with self._plugging:
            taken = await self.handle("disks", vm_id)
            await self.handle("plug", vm_id, disk_xml(disk, taken))

    async def expose(self, vm_id: VmId, port: int = 0) -> int:
        """Make a VM's ssh reachable, and return the port on the host's loopback: `port`, if it is none yet.

        Raises:
            HostError, HypervisorTimeout.
        """
        found: int = await self.handle("expose", vm_id, *SSH_WAY, port)
        return found

    async def destroy(self, vm_id: VmId) -> None:
        """End a VM at once; one that is not there, or is not ours, is left as it is."""
        if (await self.sight(vm_id)).condition is Condition.GONE:
            return
        await self._exits.watch([vm_id])
        if vm_id not in self._ending:
            self._ending[vm_id] = asyncio.create_task(self._end(vm_id), name=f"end {vm_id}")
            self._ending[vm_id].add_done_callback(lambda ended: self._ended(vm_id, ended))
        ending = self._ending[vm_id]
        exit_seen = asyncio.ensure_future(self._exits.exit_of(vm_id).wait())
        try:
            await asyncio.wait({ending, exit_seen}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            exit_seen.cancel()
        if not exit_seen.done():
            await asyncio.shield(ending)

    async def sight(self, vm_id: VmId) -> VmSight:
        """Return what is known of one VM; GONE where there is none of ours."""
        gone = VmSight(id=vm_id, attempt_id="", condition=Condition.GONE)
        if self._exits.has_exited(vm_id):
            return gone
        try:
            seen = await self._call("look", vm_id, budget=_LOOK_BUDGET)
        except LibvirtError as error:
            if error.code != NO_DOMAIN:
                raise HostError(f"libvirt could not look at the VM {vm_id}: {error}.", hint="") from error
            return gone
        return self._sight(seen) or gone

    async def sights(self) -> Sequence[VmSight]:
        """Return all VMs of this state directory, and watch for their ends from now on."""
        try:
            listed = await self._call("list", budget=_LOOK_BUDGET)
        except LibvirtError as error:
            raise HypervisorUnavailable(f"libvirt could not list its VMs: {error}.") from error
        sights = [sight for seen in listed if (sight := self._sight(seen)) is not None]
        await self._exits.watch([sight.id for sight in sights])
        return sights

    def watch(self, callback: Callable[[VmSight], None]) -> None:
        """Call `callback` on the event loop at each change."""
        self._callbacks.append(callback)

    def _prepare(self) -> place.Place:
        where = place.prepare(self._folder, self._uri, os.environ)
        if where.label == place.EMBED:
            capabilities.seed(where.folder, self._cache)
        return where

    async def _learn(self, connection: Connection, where: place.Place) -> None:
        """Have libvirt know this QEMU before the first VM needs it, and keep that for other state directories."""
        architecture = platform.machine()
        machine = machine_of(architecture).type
        await connection.call("probe", self._emulator, architecture, machine, "qemu", budget=_PROBE_BUDGET)
        if where.label == place.EMBED:
            await asyncio.to_thread(capabilities.keep, where.folder, self._cache)

    async def _call(self, verb: str, *arguments: object, budget: float, again: bool = True) -> Any:
        if self._connection is None:
            raise HypervisorUnavailable("The hypervisor is closed.", hint="")
        return await self._connection.call(verb, *arguments, budget=budget, again=again)

    async def bring_back(self, vm_id: VmId, attempt_id: str, file: Path, budget: float) -> StartTimes:
        """Start a VM, paused, that stands where a file says (hypervisor.sleepers)."""
        if vm_id in self._ending:
            await asyncio.shield(self._ending[vm_id])
        # What is known of it is of the VM that went to sleep.
        self._exits.forget(vm_id)
        times: list[float] = await self._call("load", str(file), budget=budget, again=False)
        self._attempts[vm_id] = attempt_id
        await self._exits.watch([vm_id])
        return StartTimes(create=times[0], load=times[1], resume=times[2])

    async def _bring_up(self, spec: VmSpec, xml: str) -> list[float]:
        hold = spec.id if spec.held else None
        fork = spec.memory if isinstance(spec.memory, Snapshot) else None
        verb, devices = ("create", ()) if fork is None else ("fork", (str(fork.devices),))
        times: list[float] = await self._call(verb, xml, *devices, hold, budget=_START_BUDGET, again=False)
        return times

    async def handle(self, verb: str, vm_id: VmId, *arguments: object, budget: float = _HANDLE_BUDGET) -> Any:
        """Do something to a VM of ours that is there: one of the host's verbs (host.server)."""
        # Those known are ours; a look costs time that a VM from the pool does not have.
        known = vm_id in self._attempts and not self._exits.has_exited(vm_id)
        if not known and (await self.sight(vm_id)).condition is Condition.GONE:
            raise HostError(f"There is no VM {vm_id} to {doing(verb)}.", hint="")
        try:
            return await self._call(verb, vm_id, *arguments, budget=budget, again=False)
        except ChannelLost:
            raise HypervisorTimeout(f"libvirt went away during `{verb}` of the VM {vm_id}.", hint="") from None
        except LibvirtError as error:
            raise handle_error(verb, vm_id, error) from error

    def _sight(self, seen: dict[str, Any]) -> VmSight | None:
        """Return what libvirt has seen as ours; None for a VM of somebody else's, or one whose process has exited."""
        if self._exits.has_exited(seen["vm"]):
            return None
        try:
            mark = ET.fromstring(seen["metadata"] or "<none/>")
        except ET.ParseError:
            return None
        if mark.tag not in (f"{{{METADATA}}}vm", "vm") or mark.get("state") != self._state_id:
            return None
        attempt_id = mark.get("attempt", "")
        self._attempts[seen["vm"]] = attempt_id
        return VmSight(id=VmId(seen["vm"]), attempt_id=attempt_id, condition=Condition(seen["condition"]))

    async def _end(self, vm_id: str) -> None:
        try:
            await self._call("destroy", vm_id, budget=_DESTROY_BUDGET)
        except LibvirtError as error:
            if error.code != NO_DOMAIN and (await self.sight(VmId(vm_id))).condition is not Condition.GONE:
                raise HostError(f"libvirt could not end the VM {vm_id}: {error}.", hint="") from error

    def _ended(self, vm_id: str, ending: asyncio.Task[None]) -> None:
        del self._ending[vm_id]
        # Whoever waits has the error; where nobody waits any more it counts as seen.
        if not ending.cancelled():
            ending.exception()

    def _tell(self, condition: str, vm_id: str) -> None:
        """Take an event of libvirt's. After a process's exit only its end is news, and was told."""
        if not self._exits.has_exited(vm_id):
            self._report(Condition(condition), vm_id)
        if condition == Condition.GONE:
            self._forget(vm_id)

    def _report(self, condition: Condition, vm_id: str) -> None:
        if vm_id in self._attempts:
            sight = VmSight(id=VmId(vm_id), attempt_id=self._attempts[vm_id], condition=condition)
            for callback in self._callbacks:
                callback(sight)

    def _forget(self, vm_id: str) -> None:
        """Drop what is known of a VM that libvirt has no more, and QEMU's own log of it."""
        if self._attempts.pop(vm_id, None) is not None and self._logs is not None:
            with contextlib.suppress(OSError):
                (self._logs / f"{domain_name(VmId(vm_id))}.log").unlink()
        self._held.discard(vm_id)
        self._exits.forget(vm_id)


def emulator_path(architecture: str | None = None) -> str:
    """Return QEMU's system emulator for this machine's architecture.

    Raises:
        HypervisorUnavailable: it is not installed.
    """
    architecture = architecture or platform.machine()
    machine_of(architecture)
    name = f"qemu-system-{architecture}"
    found = shutil.which(name)
    if found is None:
        package = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}[architecture]
        raise HypervisorUnavailable(
            f"QEMU is not installed: there is no {name} on the PATH.", hint=f"apt-get install {package}"
        )
    return found


def _claim_files(spec: VmSpec) -> None:
    """Make what QEMU writes to, and check what it maps: memory behind a file's end would kill it in mid-flight."""
    claim(spec.log, spec.console, *([] if spec.outputs is None else [spec.outputs]))
    if isinstance(spec.memory, RamFile):
        make_new(spec.memory.path)
        os.truncate(spec.memory.path, spec.memory_mb * MIB)
    if isinstance(spec.memory, Snapshot):
        _check_size(spec.memory.ram, spec.memory_mb * MIB)
        _check_size(spec.memory.devices, None)


def _drop_memory(spec: VmSpec) -> None:
    """Remove the memory file of a VM that did not come to be."""
    if isinstance(spec.memory, RamFile):
        spec.memory.path.unlink(missing_ok=True)


def _check_size(path: Path, expected: int | None) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SnapshotUnusable(f"The snapshot's {path.name} can't be read: {error.strerror}.", hint="") from None
    if size == 0 or expected not in (None, size):
        raise SnapshotUnusable(f"The snapshot's {path.name} has {size} bytes.", hint="")


def _dotted(version: int) -> str:
    """Return a version as libvirt counts them: major * 1,000,000 + minor * 1,000 + release."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
