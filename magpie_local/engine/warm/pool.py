"""Forks that wait for a job: loaded, settled, exercised and paused, so that a claim is a resume.

They are held: they end with the engine that keeps them, also when it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.network import NONE
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import make_folder
from magpie_local.engine.renewal import new_renewal
from magpie_local.engine.warm.fork import fork_spec
from magpie_local.engine.warm.handshake import conversation
from magpie_local.engine.warm.lifeline import while_it_lives
from magpie_local.errors import HostError, NetworkUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection

    from magpie_local.domain.identity import Identity
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.domain.network import GuestConfig
    from magpie_local.domain.template import Template
    from magpie_local.domain.vm import BootImage
    from magpie_local.engine.context import Ports, WarmOptions


#: Seconds within which a fork must be ready to wait.
_FILL_BUDGET = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledVm:
    """A fork that waits, or is about to."""

    id: VmId
    template: Template
    files: AttemptFiles
    identity: Identity
    #: What its guest was told of the default network; None where it was not connected.
    network: GuestConfig | None = None

    @property
    def host_key(self) -> str:
        """The public half of its host key."""
        return self.identity.host_key_public


class Pool:
    """The forks of one leader."""

    def __init__(self, ports: Ports, options: WarmOptions) -> None:
        self._ports = ports
        self._options = options
        self._waiting: dict[VmId, PooledVm] = {}
        self._coming: dict[VmId, PooledVm] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def vm_ids(self) -> set[VmId]:
        """The VMs that belong to it at this moment."""
        return {*self._waiting, *self._coming}

    @property
    def waiting(self) -> list[Template]:
        """The template of each fork that waits."""
        return [vm.template for vm in self._waiting.values()]

    @property
    def coming(self) -> list[Template]:
        """The template of each fork that is to wait soon."""
        return [vm.template for vm in self._coming.values()]

    def take(self, key: str) -> PooledVm | None:
        """Hand out a fork of the template `key`, the one that waited longest; it is the caller's from now on."""
        found = next((vm for vm in self._waiting.values() if vm.template.key == key), None)
        return None if found is None else self._waiting.pop(found.id)

    async def add(self, template: Template, image: BootImage) -> None:
        """Start one more fork and have it wait.

        Raises:
            SnapshotUnusable: the template is of no use; the pool is as before.
            HostError: the fork did not get ready, likewise.
        """
        vm_id = new_vm_id()
        identity = await self._ports.guest.new_identity(vm_id)
        files = self._ports.layout.warming(vm_id)
        vm = PooledVm(id=vm_id, template=template, files=files, identity=identity)
        self._coming[vm_id] = vm
        try:
            await self._start(vm, image)
            what = f"A fork of {template.shape} for the pool"
            prepared = self._prepare(vm)
            network = await while_it_lives(self._ports.hypervisor, vm_id, prepared, budget=_FILL_BUDGET, what=what)
            fault_point("P1.after")
            await self._ports.vms.pause(vm_id)
            fault_point("P2.after")
        except BaseException:
            await self.end(vm)
            raise
        finally:
            died = self._coming.pop(vm_id, None) is None
        if died:
            await self.end(vm)
            raise HostError(f"A fork of {template.shape} for the pool died.", hint="")
        self._waiting[vm_id] = replace(vm, network=network)

    def lose(self, vm_id: VmId) -> PooledVm | None:
        """Forget a fork that has died; return it if it was one of ours. What it needed goes with `end`."""
        self._coming.pop(vm_id, None)
        return self._waiting.pop(vm_id, None)

    async def end(self, vm: PooledVm) -> None:
        """End a fork that was handed out or lost, and remove what is left of it."""
        with contextlib.suppress(HostError):
            await self._ports.hypervisor.destroy(vm.id)
        await self._ports.networks.forget(vm.id)
        await asyncio.to_thread(shutil.rmtree, vm.files.folder, ignore_errors=True)
        self._ports.layout.control(vm.id).unlink(missing_ok=True)

    async def drain(self, keys: Collection[str] | None = None) -> int:
        """End the forks that wait: all, or those of the templates named; return how many."""
        leaving = [vm for vm in self._waiting.values() if keys is None or vm.template.key in keys]
        for vm in leaving:
            del self._waiting[vm.id]
        await asyncio.gather(*map(self.end, leaving))
        return len(leaving)

    async def _start(self, vm: PooledVm, image: BootImage) -> None:
        control = self._ports.layout.control(vm.id)
        await asyncio.to_thread(make_folder, vm.files, control.parent)
        await asyncio.to_thread(shutil.copyfile, vm.template.blank, vm.files.scratch)
        spec = fork_spec(self._ports, vm.id, vm.template, image, vm.files, attempt_id="pool", held=True)
        await self._ports.hypervisor.start(spec)

    async def _prepare(self, vm: PooledVm) -> GuestConfig | None:
        async with conversation(self._ports.guest, self._ports.layout.control(vm.id)) as (session, _):
            network = await self._connect(vm.id)
            if network is not None:
                await session.join(network)
            await session.exercise()
            await session.settle(vm.identity, new_renewal(self._ports.clock))
        return network

    async def _connect(self, vm_id: VmId) -> GuestConfig | None:
        if self._options.network == NONE:
            return None
        # The job that gets the fork tells its user what is missing, if it wants a network.
        with contextlib.suppress(NetworkUnavailable):
            return await self._ports.networks.attach_default(vm_id)
        return None
