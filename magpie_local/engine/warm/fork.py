"""What a fork is started from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.identity import mac_of
from magpie_local.domain.vm import Disk, VmSpec

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.domain.template import Template
    from magpie_local.domain.vm import BootImage
    from magpie_local.engine.context import Ports


def fork_spec(
    ports: Ports, vm_id: VmId, template: Template, image: BootImage, files: AttemptFiles, *,
    attempt_id: str, held: bool = False,
) -> VmSpec:  # fmt: skip
    """Return the VM that goes on where `template` stands, with `files` of its own."""
    return VmSpec(
        id=vm_id, state_id=ports.state_id, attempt_id=attempt_id, vcpus=template.shape.vcpus,
        memory_mb=template.shape.memory_mb, image=image, disks=(Disk(path=files.scratch, format="qcow2"),),
        control=ports.layout.control(vm_id), log=files.log, console=files.console, mac=mac_of(vm_id),
        memory=template.snapshot, held=held, outputs=files.outputs,
    )  # fmt: skip
