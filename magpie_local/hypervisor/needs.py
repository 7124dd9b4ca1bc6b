"""What VMs need of this machine, for `magpie doctor`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from magpie_local.domain.need import Need
from magpie_local.domain.vm import Accelerator
from magpie_local.errors import MagpieError
from magpie_local.hypervisor import accel, place
from magpie_local.hypervisor.adapter import LibvirtHypervisor, emulator_path
from magpie_local.hypervisor.disks import TOOL

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.ports.images import Images

_USERADD = f"useradd --system --no-create-home --shell /usr/sbin/nologin {place.SYSTEM_USER}"


async def needs(folder: Path, *, images: Images, cache: Path, uri: str | None) -> list[Need]:
    """Return the needs: QEMU, qemu-img, libvirt by really opening it, KVM by the probe.

    Args:
        folder: a place for libvirt's files that no leader holds; not the state directory's own.
        images: the image whose kernel proves KVM.
        cache: where the verdict on KVM is remembered.
        uri: the user's own connection, if any.
    """
    found = [_qemu(), _tool()]
    if os.geteuid() == 0:
        found.append(_system_user())
    if all(need.ok for need in found):
        found += [await _libvirt(folder, images, cache, uri), await _kvm(images, cache)]
    return found


def _qemu() -> Need:
    try:
        return Need(name="QEMU", ok=True, detail=emulator_path(), cure=None)
    except MagpieError as error:
        return Need(name="QEMU", ok=False, detail=error.message, cure=error.hint)


def _tool() -> Need:
    found = shutil.which(TOOL)
    cure = None if found else "apt-get install qemu-utils"
    return Need(name=TOOL, ok=found is not None, detail=found or "not on the PATH", cure=cure)


def _system_user() -> Need:
    ok = place.has_system_user()
    detail = f"libvirt as root needs the user {place.SYSTEM_USER}" + ("" if ok else ", which is not there")
    return Need(name="system user", ok=ok, detail=detail, cure=None if ok else _USERADD)


async def _libvirt(folder: Path, images: Images, cache: Path, uri: str | None) -> Need:
    hypervisor = LibvirtHypervisor(folder, "doctor", images=images, cache=cache, uri=uri, accelerator=Accelerator.TCG)
    try:
        features = await hypervisor.open()
    except MagpieError as error:
        return Need(name="libvirt", ok=False, detail=error.message, cure=error.hint)
    finally:
        await hypervisor.close()
    return Need(name="libvirt", ok=True, detail=f"{features.connection}, {features.version}", cure=None)


async def _kvm(images: Images, cache: Path) -> Need:
    """Say whether KVM works. Without it jobs run, but slower and with no security boundary: not a failure."""
    verdict = await accel.examine(emulator_path(), images, cache)
    if verdict.accelerator is Accelerator.KVM:
        return Need(name="KVM", ok=True, detail=verdict.reason, cure=None)
    detail = f"not used: {verdict.reason}; jobs run in pure emulation, which is slower and no security boundary"
    return Need(name="KVM", ok=True, detail=detail, cure=None)
