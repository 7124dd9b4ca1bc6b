"""The one place that knows which adapter stands behind which port."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from magpie_local import config
from magpie_local.domain.sizes import MIB
from magpie_local.engine.context import Options, Ports, WarmOptions
from magpie_local.engine.engine import Engine
from magpie_local.errors import ImageBroken, ImageNotFound, InvalidInput
from magpie_local.guest.channel import AgentGuest
from magpie_local.guest.ssh.doors import SshDoors
from magpie_local.guest.ssh.opener import SshShells
from magpie_local.guest.vault import FileVault
from magpie_local.ports.clock import SystemClock
from magpie_local.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.config import Settings
    from magpie_local.domain.ids import JobId
    from magpie_local.domain.layout import Layout
    from magpie_local.domain.need import Need
    from magpie_local.ports.hypervisor import Disks, Hypervisor, LiveVms
    from magpie_local.ports.images import Images
    from magpie_local.ports.meter import Meter
    from magpie_local.ports.networks import Networks
    from magpie_local.ports.shell import Shells
    from magpie_local.ports.sleep import Doorbells, Sleepers
    from magpie_local.store.store import Store


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Yield an engine on the state directory of `settings`, not yet opened; the store is.

    Raises:
        StateError: the state directory can't be used.
        InvalidInput: the pool is to serve an image that is not there.
    """
    layout = config.layout(settings)
    clock = SystemClock()
    async with open_store(layout, clock) as store:
        ports = _ports(settings, layout, clock, store)
        await _check_pool_shapes(settings, ports.images)
        yield Engine(ports, _options(settings))


def open_shells() -> Shells:
    """Return what opens SSH connections to VMs."""
    return SshShells()


def start_keeper(settings: Settings) -> None:
    """Start a keeper: the same engine in a process of its own, which ends when nothing is left to drive.

    A session of its own keeps it from a notebook's interrupt and a terminal's end (reliability.md, finding 3).
    """
    log = os.open(_keeper_log(settings), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        subprocess.Popen(
            [sys.executable, "-m", "magpie_local.keeper"],
            env={**os.environ, **_keeper_environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


def _keeper_environment(settings: Settings) -> dict[str, str]:
    source = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    # A pool would only wait for jobs, and a keeper ends when there are none.
    return {**settings.environment(), "MAGPIE_POOL": "0", "PYTHONPATH": path}


def _keeper_log(settings: Settings) -> Path:
    return config.layout(settings).root / "keeper.log"


async def machine_needs(settings: Settings) -> list[Need]:
    """Return what the adapters behind `settings` need of this machine."""
    from magpie_local.store.needs import needs as store_needs

    layout = config.layout(settings)
    if settings.hypervisor == "fake":
        return await asyncio.to_thread(store_needs, layout)
    from magpie_local.hypervisor.needs import needs as hypervisor_needs
    from magpie_local.hypervisor.net.needs import network_need
    from magpie_local.images.catalogue import ImageCatalogue
    from magpie_local.images.needs import image_need
    from magpie_local.images.needs import needs as image_needs

    images = ImageCatalogue(settings.images)
    cache = config.cache_dir()
    with tempfile.TemporaryDirectory(prefix="magpie-doctor-") as scratch:
        machine = await hypervisor_needs(Path(scratch), images=images, cache=cache, uri=settings.libvirt_uri)
        network = await asyncio.to_thread(network_need, Path(scratch))
    return [
        *machine,
        network,
        *await asyncio.to_thread(image_needs),
        await image_need(images),
        *await asyncio.to_thread(store_needs, layout),
    ]


def _options(settings: Settings) -> Options:
    return Options(
        cpus=settings.cpus,
        memory_mb=settings.memory_mb,
        boot_timeout=settings.boot_timeout,
        stop_grace=settings.stop_grace,
        warm=WarmOptions(
            templates_size=settings.templates,
            pool=settings.pool,
            pool_memory_mb=settings.pool_memory // MIB,
            pool_shapes=settings.pool_shapes,
            network=settings.network,
        ),
    )


async def _check_pool_shapes(settings: Settings, images: Images) -> None:
    """Raise InvalidInput for a shape whose image is not there, or needs more memory."""
    if not (settings.templates and settings.pool):
        return
    for shape in settings.pool_shapes:
        origin = f"The value came from: {settings.origins.get('pool_shapes', 'argument')}."
        try:
            image = await images.resolve(shape.image)
        except ImageNotFound as error:
            allowed = f"there is no image {shape.image!r}"
            raise InvalidInput("pool_shapes", str(shape), allowed, hint=f"{error.hint} {origin}") from None
        except ImageBroken:
            continue  # the trouble of jobs that want it
        if shape.memory_mb < image.min_memory_mb:
            raise InvalidInput("pool_shapes", str(shape), f"at least {image.min_memory_mb} MiB", hint=origin)


def _ports(settings: Settings, layout: Layout, clock: SystemClock, store: Store) -> Ports:
    machine = _machine(settings, layout, store.state_id)
    return Ports(
        layout=layout,
        state_id=store.state_id,
        clock=clock,
        jobs=store.jobs,
        wishes=store.jobs,
        leader=store.leader,
        workspaces=store.workspaces,
        workspace_use=store.leader.workspaces,
        network_store=store.networks,
        networks=machine.networks,
        hypervisor=machine.hypervisor,
        vms=machine.vms,
        meter=machine.meter,
        sleepers=machine.sleepers,
        doorbells=_doorbells(settings, layout),
        disks=machine.disks,
        guest=AgentGuest(),
        vault=FileVault(config.secret_key()),
        doors=SshDoors(layout.doors),
        images=machine.images,
    )


def _doorbells(settings: Settings, layout: Layout) -> Doorbells:
    from magpie_local.hypervisor.doorbell.bells import TcpDoorbells

    def wakes(job_id: JobId) -> list[str]:
        return [sys.executable, "-m", "magpie_local.keeper", "--wake", job_id]

    return TcpDoorbells(layout.doorbell, wakes, _keeper_environment(settings), _keeper_log(settings))


class _Machine(NamedTuple):
    hypervisor: Hypervisor
    vms: LiveVms
    meter: Meter
    sleepers: Sleepers
    disks: Disks
    images: Images
    networks: Networks


def _machine(settings: Settings, layout: Layout, state_id: str) -> _Machine:
    """Return what VMs are made of: libvirt, or local processes that stand in for it in tests."""
    if settings.hypervisor == "fake":
        from magpie_local.testing import (
            FakeDisks,
            FakeHypervisor,
            FakeImages,
            FakeMeter,
            FakeNetworks,
            FakeSleepers,
        )

        fake = FakeHypervisor(layout.hypervisor, state_id)
        return _Machine(
            hypervisor=fake, vms=fake, meter=FakeMeter(layout.hypervisor), sleepers=FakeSleepers(fake),
            disks=FakeDisks(), images=FakeImages(layout.hypervisor / "images"), networks=FakeNetworks(),
        )  # fmt: skip
    from magpie_local.hypervisor.adapter import LibvirtHypervisor
    from magpie_local.hypervisor.disks import QemuDisks
    from magpie_local.hypervisor.meter import QemuMeter
    from magpie_local.hypervisor.net.host_access import this_machine
    from magpie_local.hypervisor.net.linker import LibvirtLinker
    from magpie_local.hypervisor.net.networks import VmNetworks
    from magpie_local.hypervisor.net.uplink import Inside
    from magpie_local.hypervisor.sleepers import LibvirtSleepers
    from magpie_local.images.catalogue import ImageCatalogue

    catalogue = ImageCatalogue(settings.images)
    hypervisor = LibvirtHypervisor(
        layout.hypervisor,
        state_id,
        uri=settings.libvirt_uri,
        accelerator=settings.accelerator,
        images=catalogue,
        cache=config.cache_dir(),
    )
    access = this_machine() if settings.share_proxies else None
    inside = Inside(lan=settings.lan, services=access.services if access else ())
    networks = VmNetworks(layout.networks, LibvirtLinker(hypervisor), inside, access)
    return _Machine(
        hypervisor=hypervisor, vms=hypervisor, meter=QemuMeter(), sleepers=LibvirtSleepers(hypervisor),
        disks=QemuDisks(), images=catalogue, networks=networks,
    )  # fmt: skip
