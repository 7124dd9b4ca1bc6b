"""A VM to describe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from magpie_local.domain.ids import VmId
from magpie_local.domain.vm import BootImage, Disk, VmSpec

_IMAGE = Path("/images/base/1")
_JOB = Path("/state/jobs/j/1")


@pytest.fixture
def image() -> BootImage:
    return BootImage(
        name="base", version="1", kernel=_IMAGE / "vmlinuz", initrd=_IMAGE / "initrd", root=_IMAGE / "root.erofs",
        scratch=_IMAGE / "scratch.qcow2", cmdline="console=ttyS0 quiet", architecture="x86_64", min_memory_mb=128,
    )  # fmt: skip


@pytest.fixture
def spec(image: BootImage) -> VmSpec:
    return VmSpec(
        id=VmId("11111111-2222-3333-4444-555555555555"), state_id="a-state", attempt_id="an-attempt", vcpus=2,
        memory_mb=512, image=image, disks=(Disk(path=_JOB / "scratch.qcow2", format="qcow2"),),
        control=Path("/state/run/c/1"), log=_JOB / "log", console=_JOB / "console.log", mac="52:54:00:12:34:56",
    )  # fmt: skip


@pytest.fixture
def arm_spec(spec: VmSpec) -> VmSpec:
    return replace(spec, image=replace(spec.image, architecture="aarch64"))
