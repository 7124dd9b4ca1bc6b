"""Make a template: boot a VM of the shape with its memory in a file, exercise it, freeze it, sum it up."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from magpie_local.domain.identity import mac_of
from magpie_local.domain.network import GuestConfig
from magpie_local.domain.sizes import MIB, format_bytes
from magpie_local.domain.template import BLANK, DEVICES, RAM, SCRATCH, Template
from magpie_local.domain.vm import Disk, RamFile, VmSpec
from magpie_local.engine.faults import fault_point
from magpie_local.engine.files import make_folder
from magpie_local.engine.renewal import new_renewal
from magpie_local.engine.warm.handshake import conversation
from magpie_local.engine.warm.lifeline import while_it_lives
from magpie_local.errors import HostDiskFull, HostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.shape import Shape
    from magpie_local.domain.vm import BootImage, Features
    from magpie_local.engine.context import Ports
    from magpie_local.engine.warm.shelf import TemplateShelf

#: Seconds for exercising, beyond what a boot may take.
_EXERCISE_BUDGET = 120.0
#: Disk space that stays free beside a template's memory, bytes.
_MARGIN = 512 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A template to make, and the VM that is to become it."""

    key: str
    shape: Shape
    image: BootImage
    features: Features
    vm_id: VmId
    #: Seconds.
    boot_timeout: float
    #: What most forks will be told of their network: what they were told already costs them nothing.
    network: GuestConfig = field(default_factory=GuestConfig)


async def make_template(ports: Ports, shelf: TemplateShelf, plan: Plan) -> Template:
    """Make a template and put it on the shelf; where that goes wrong, nothing of it is left.

    Raises:
        HostDiskFull: there is no room, or there was none in the end.
        HostError: the VM did not come up, or could not be frozen.
    """
    folder = await asyncio.to_thread(shelf.begin, plan.key)
    try:
        await asyncio.to_thread(_make_room, shelf, plan.shape, folder)
        async with _template_vm(ports, plan, folder):
            what, budget = f"The VM for a template of {plan.shape}", plan.boot_timeout + _EXERCISE_BUDGET
            await while_it_lives(ports.hypervisor, plan.vm_id, _exercise(ports, plan), budget=budget, what=what)
            fault_point("T1.after")
            await ports.vms.freeze(plan.vm_id, folder / DEVICES)
            fault_point("T2.after")
        template = Template(
            key=plan.key, shape=plan.shape, image_version=plan.image.version,
            accelerator=plan.features.accelerator.value, made_with=plan.features.version,
            created_at=ports.clock.now(), folder=folder,
        )  # fmt: skip
        await ports.disks.overlay(folder / BLANK, template.scratch)
        await asyncio.to_thread(shelf.finish, template)
    except BaseException as error:
        full = isinstance(error, HostError) and await asyncio.to_thread(_is_full, plan.shape, folder)
        await asyncio.to_thread(shelf.remove, plan.key)
        if full:
            raise HostDiskFull(f"The disk filled up while a template of {plan.shape} was saved.") from error
        raise
    fault_point("T3.after")
    return template


@asynccontextmanager
async def _template_vm(ports: Ports, plan: Plan, folder: Path) -> AsyncIterator[None]:
    """Run the VM that becomes the template; it is gone afterwards, and so is what only it needed."""
    files, control = ports.layout.warming(plan.vm_id), ports.layout.control(plan.vm_id)
    try:
        await asyncio.to_thread(make_folder, files, control.parent)
        blank = Disk(path=plan.image.scratch, format="qcow2", readonly=True)
        await ports.disks.overlay(folder / SCRATCH, blank)
        spec = VmSpec(
            id=plan.vm_id, state_id=ports.state_id, attempt_id=f"template.{plan.key}", vcpus=plan.shape.vcpus,
            memory_mb=plan.shape.memory_mb, image=plan.image, disks=(Disk(path=folder / SCRATCH, format="qcow2"),),
            control=control, log=files.log, console=files.console, mac=mac_of(plan.vm_id),
            memory=RamFile(path=folder / RAM), held=True,
        )  # fmt: skip
        await ports.hypervisor.start(spec)
        yield
    finally:
        await ports.hypervisor.destroy(plan.vm_id)
        await asyncio.to_thread(shutil.rmtree, files.folder, ignore_errors=True)
        control.unlink(missing_ok=True)


async def _exercise(ports: Ports, plan: Plan) -> None:
    identity = await ports.guest.new_identity(plan.vm_id)
    async with conversation(ports.guest, ports.layout.control(plan.vm_id)) as (session, _):
        await session.settle(identity, new_renewal(ports.clock))
        await session.join(plan.network)
        await session.exercise()


def _is_full(shape: Shape, folder: Path) -> bool:
    """Return whether the rest of a template's memory would not fit beside what is there."""
    try:
        written = (folder / RAM).stat().st_blocks * 512
    except OSError:
        written = 0
    return shutil.disk_usage(folder).free < shape.memory_mb * MIB - written


def _make_room(shelf: TemplateShelf, shape: Shape, folder: Path) -> None:
    needed = shape.memory_mb * MIB + _MARGIN
    shelf.make_room(needed, shape)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HostDiskFull(f"A template of {shape} may take {format_bytes(needed)}, and {format_bytes(free)} are free.")
