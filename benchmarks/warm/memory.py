"""What an idle fork takes of the host: its proportional set size, with others beside it, as they are in use."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from benchmarks.memory import proportional_set_size
from benchmarks.report import Figure, spread
from magpie_local.domain.ids import new_vm_id
from magpie_local.domain.sizes import MIB
from magpie_local.engine.files import make_folder
from magpie_local.engine.warm.fork import fork_spec
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.wiring import open_engine

if TYPE_CHECKING:
    from magpie_local import Magpie
    from magpie_local.config import Settings

_FORKS = 4


def exercised(client: Magpie) -> Figure:
    """Measure the forks that wait in a client's pool."""
    found = [folder.name for folder in (client.settings.home / "warm").iterdir()]
    values = [proportional_set_size(vm_id) / MIB for vm_id in found]
    return spread(f"PSS of a waiting fork, {len(found)} of them", values, "MiB", goal="<= 120")


async def loaded(settings: Settings) -> Figure:
    """Measure forks that were loaded and paused at once; nobody else may lead the state directory."""
    async with open_engine(settings) as engine:
        ports = engine.ports
        await ports.hypervisor.open()
        (shelved,) = TemplateShelf(ports.layout.templates, ports.clock.boot_id()).contents()
        assert shelved.template is not None
        image = await ports.images.resolve(shelved.template.shape.image)
        ids = [new_vm_id() for _ in range(_FORKS)]
        try:
            for vm_id in ids:
                files = ports.layout.warming(vm_id)
                await asyncio.to_thread(make_folder, files, ports.layout.control(vm_id).parent)
                await asyncio.to_thread(shutil.copyfile, shelved.template.blank, files.scratch)
                spec = fork_spec(ports, vm_id, shelved.template, image, files, attempt_id="bench", held=True)
                await ports.hypervisor.start(spec)
                await ports.vms.pause(vm_id)
            values = [proportional_set_size(vm_id) / MIB for vm_id in ids]
        finally:
            for vm_id in ids:
                await ports.hypervisor.destroy(vm_id)
            await ports.hypervisor.close()
    return spread(f"PSS of a loaded fork, {_FORKS} of them", values, "MiB", goal="<= 60")
