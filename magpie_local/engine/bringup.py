"""How an attempt's VM comes to be: a fork that waits in the pool, a fork of a template, or a cold boot.

    prepare   its folder and disk are there
    start     it runs

Both leave something that recovery can go on from, whenever the engine dies.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

from magpie_local.domain.identity import mac_of
from magpie_local.domain.template import Template
from magpie_local.domain.vm import Condition, Disk, StartTimes, VmSpec
from magpie_local.domain.workspace import SERIAL
from magpie_local.engine.files import adopt_folder, make_folder
from magpie_local.engine.warm.fork import fork_spec
from magpie_local.engine.warm.pool import PooledVm
from magpie_local.engine.workspaces import Workspaces
from magpie_local.errors import HostError, HypervisorTimeout

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.domain.network import GuestConfig
    from magpie_local.domain.vm import BootImage
    from magpie_local.engine.context import Ports
    from magpie_local.engine.warm.warmer import Origin
    from magpie_local.engine.workspaces import Prepared


class BringUp:
    """Brings up one attempt's VM.

    Args:
        ports: the world.
        job: whose VM it is.
        attempt: likewise.
        origin: what it is made from.
    """

    def __init__(self, ports: Ports, job: JobRecord, attempt: Attempt, origin: Origin) -> None:
        self._ports = ports
        self._job = job
        self._attempt = attempt
        self._origin = origin
        self._image: BootImage | None = None
        self._workspace: Prepared | None = None

    @property
    def must_check_workspace(self) -> bool:
        """Whether the last VM that had the workspace did not let go of it well."""
        return self._workspace is None or self._workspace.check

    @property
    def host_key(self) -> str:
        """The public half of the host key of a VM that has its identity already; otherwise empty."""
        return self._origin.host_key if isinstance(self._origin, PooledVm) else ""

    @property
    def network(self) -> GuestConfig | None:
        """What the guest of a VM that waited was told of its network."""
        return self._origin.network if isinstance(self._origin, PooledVm) else None

    @property
    def kind(self) -> str:
        """`pool`, `fork` or `cold`."""
        if isinstance(self._origin, PooledVm):
            return "pool"
        return "cold" if self._origin is None else "fork"

    def described(self, image: str) -> dict[str, str | None]:
        """Return what the VM comes from, for the job's story; `image` is the image's version."""
        template = self._origin.template if isinstance(self._origin, PooledVm) else self._origin
        return {"start": self.kind, "image": image, "template": None if template is None else template.key}

    @property
    def files(self) -> AttemptFiles:
        """The attempt's files."""
        return self._ports.layout.attempt(self._attempt.job_id, self._attempt.number)

    @property
    def control(self) -> Path:
        """The VM's control socket."""
        return self._ports.layout.control(self._attempt.vm_id)

    async def image(self) -> str:
        """Find the job's image, where it is needed, and return the version that the VM runs.

        Raises:
            ImageNotFound, ImageBroken.
            HostError: it is not the one that the template was made of.
        """
        if isinstance(self._origin, PooledVm):
            return self._origin.template.image_version
        self._image = await self._ports.images.resolve(self._job.image)
        if self._origin is not None and self._image.version != self._origin.image_version:
            raise HostError(f"The image {self._job.image} was built anew since the template was chosen.", hint="")
        return self._image.version

    async def prepare(self) -> None:
        """Make the attempt's folder with the VM's disk, and have its workspace.

        Raises:
            WorkspaceDamaged: its disk is missing or damaged.
            HostDiskFull, HostError, OSError.
        """
        await self._prepare_scratch()
        workspace_id = self._job.workspace_id
        if workspace_id is not None:
            self._workspace = await Workspaces(self._ports).prepare(workspace_id)
            await self._ports.workspace_use.taken(workspace_id, self._job.id)

    async def _prepare_scratch(self) -> None:
        if isinstance(self._origin, PooledVm):
            await asyncio.to_thread(adopt_folder, self._origin.files, self.files)
            return
        assert self._image is not None
        await asyncio.to_thread(make_folder, self.files, self.control.parent)
        if self._origin is None:
            blank = Disk(path=self._image.scratch, format="qcow2", readonly=True)
            await self._ports.disks.overlay(self.files.scratch, blank)
        else:
            await asyncio.to_thread(shutil.copyfile, self._origin.blank, self.files.scratch)

    async def start(self) -> StartTimes:
        """Have the VM run.

        Raises:
            SnapshotUnusable: it can't be forked from what is there.
            HostDiskFull, HostError.
        """
        if isinstance(self._origin, PooledVm):
            began = time.monotonic()
            await self._ports.vms.resume(self._attempt.vm_id)
            times = StartTimes(create=0.0, resume=time.monotonic() - began)
            await self._plug_workspace()
            return times
        assert self._image is not None
        if isinstance(self._origin, Template):
            vm_id, origin = self._attempt.vm_id, self._origin
            spec = fork_spec(self._ports, vm_id, origin, self._image, self.files, attempt_id=self._attempt.id)
            times = await self._ports.hypervisor.start(spec)
            await self._plug_workspace()
            return times
        return await self._boot(self._image)

    async def _plug_workspace(self) -> None:
        if self._workspace is not None:
            await self._ports.vms.plug(self._attempt.vm_id, _workspace_disk(self._workspace))

    async def _boot(self, image: BootImage) -> StartTimes:
        spec = VmSpec(
            id=self._attempt.vm_id, state_id=self._ports.state_id, attempt_id=self._attempt.id,
            vcpus=self._job.vcpus, memory_mb=self._job.memory_mb, image=image,
            disks=self._disks(), control=self.control,
            log=self.files.log, console=self.files.console, mac=mac_of(self._attempt.vm_id),
            outputs=self.files.outputs,
        )  # fmt: skip
        try:
            return await self._ports.hypervisor.start(spec)
        except HypervisorTimeout:
            # The outcome is unknown: the VM may have come up all the same.
            sight = await self._ports.hypervisor.sight(spec.id)
            if sight.condition in (Condition.GONE, Condition.CRASHED, Condition.DISK_ERROR):
                raise
        return StartTimes(create=0.0)

    def _disks(self) -> tuple[Disk, ...]:
        scratch = Disk(path=self.files.scratch, format="qcow2")
        return (scratch,) if self._workspace is None else (scratch, _workspace_disk(self._workspace))


def _workspace_disk(workspace: Prepared) -> Disk:
    return Disk(path=workspace.head, format="qcow2", serial=SERIAL, waits_when_full=True)
