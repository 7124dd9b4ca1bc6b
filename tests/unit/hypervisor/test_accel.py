"""The probe of KVM, with real processes in QEMU's place that hang, abort, end or come up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from magpie_local.domain.vm import Accelerator
from magpie_local.errors import HypervisorUnavailable
from magpie_local.hypervisor import accel
from magpie_local.testing import FakeImages

COMES_UP = "echo booting; echo MAGPIE-PROBE-OK; exec sleep 60\n"
HANGS = "exec sleep 60\n"
ABORTS = "kill -ABRT $$\n"
ENDS = "echo 'no such accelerator' >&2; exit 1\n"


@pytest.fixture
def emulator(tmp_path):
    """Return a maker of executables that stand in for QEMU; each notes its calls in `calls`."""

    def make(behaviour: str) -> str:
        path = tmp_path / "qemu"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho $$ > {tmp_path}/pid\n{behaviour}')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def calls(tmp_path):
    """Return how often an emulator was started."""
    return lambda: len((tmp_path / "calls").read_text().splitlines()) if (tmp_path / "calls").exists() else 0


@pytest.fixture
def images(tmp_path):
    return FakeImages(tmp_path / "images")


@pytest.fixture
def device(tmp_path):
    """A file that may be opened, as /dev/kvm where KVM is there (or pretends to be)."""
    path = tmp_path / "kvm"
    path.touch()
    return path


async def test_kvm_counts_where_a_guest_came_up(emulator, images, tmp_path, device):
    verdict = await accel.choose("auto", emulator(COMES_UP), images, tmp_path / "cache", device=device)
    assert verdict.accelerator is Accelerator.KVM


@pytest.mark.parametrize(("behaviour", "why"), [(ABORTS, "status -6"), (ENDS, "status 1")])
async def test_qemu_that_ends_without_a_guest_means_emulation(behaviour, why, emulator, images):
    verdict = await accel.probe(emulator(behaviour), await images.resolve("base"))
    assert verdict.accelerator is Accelerator.TCG
    assert why in verdict.reason


async def test_qemu_that_hangs_means_emulation_and_is_killed(emulator, images, tmp_path):
    began = time.monotonic()
    verdict = await accel.probe(emulator(HANGS), await images.resolve("base"), limit=0.2)
    assert verdict.accelerator is Accelerator.TCG
    assert time.monotonic() - began < 5
    assert not _is_there(int((tmp_path / "pid").read_text()))


async def test_a_guest_that_came_up_is_killed_as_well(emulator, images, tmp_path):
    await accel.probe(emulator(COMES_UP), await images.resolve("base"))
    assert not _is_there(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("behaviour", [COMES_UP, ENDS])
async def test_a_verdict_is_remembered_privately(behaviour, emulator, images, tmp_path, device, calls):
    qemu, cache = emulator(behaviour), tmp_path / "cache"
    first = await accel.examine(qemu, images, cache, device=device)
    second = await accel.examine(qemu, images, cache, device=device)
    assert first == second
    assert calls() == 1
    assert [path.stat().st_mode & 0o777 for path in cache.iterdir()] == [0o600]


async def test_another_qemu_is_probed_anew(emulator, images, tmp_path, device):
    before = await accel.examine(emulator(ENDS), images, tmp_path / "cache", device=device)
    after = await accel.examine(emulator(COMES_UP), images, tmp_path / "cache", device=device)
    assert (before.accelerator, after.accelerator) == (Accelerator.TCG, Accelerator.KVM)


@pytest.mark.parametrize("damage", [b"", b"\xff{", b"[]", b'{"accelerator": "warp", "reason": ""}'])
async def test_a_broken_memory_is_probed_anew(damage, emulator, images, tmp_path, device, calls):
    qemu, cache = emulator(COMES_UP), tmp_path / "cache"
    await accel.examine(qemu, images, cache, device=device)
    for path in cache.iterdir():
        path.write_bytes(damage)
    verdict = await accel.examine(qemu, images, cache, device=device)
    assert verdict.accelerator is Accelerator.KVM
    assert calls() == 2


async def test_without_an_image_nothing_is_proven_and_nothing_remembered(emulator, tmp_path, device, calls):
    images = FakeImages(tmp_path / "images", names=())
    verdict = await accel.examine(emulator(COMES_UP), images, tmp_path / "cache", device=device)
    assert verdict.accelerator is Accelerator.TCG
    assert "not built" in verdict.reason
    assert (calls(), (tmp_path / "cache").exists()) == (0, False)


async def test_without_the_device_nothing_is_probed(emulator, images, tmp_path, calls):
    verdict = await accel.examine(emulator(COMES_UP), images, tmp_path / "cache", device=tmp_path / "nothing")
    assert verdict.accelerator is Accelerator.TCG
    assert calls() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
async def test_a_device_that_may_not_be_opened_is_named_with_the_cure(emulator, images, tmp_path, device):
    device.chmod(0)
    verdict = await accel.examine(emulator(COMES_UP), images, tmp_path / "cache", device=device)
    assert "usermod -aG kvm" in verdict.reason


async def test_emulation_that_was_asked_for_is_not_probed(emulator, images, tmp_path, device, calls):
    verdict = await accel.choose("tcg", emulator(COMES_UP), images, tmp_path / "cache", device=device)
    assert verdict.accelerator is Accelerator.TCG
    assert calls() == 0


async def test_kvm_that_was_demanded_and_fails_is_an_error_with_the_cure(emulator, images, tmp_path, device):
    with pytest.raises(HypervisorUnavailable, match="status 1") as caught:
        await accel.choose("kvm", emulator(ENDS), images, tmp_path / "cache", device=device)
    assert "auto" in caught.value.hint


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
