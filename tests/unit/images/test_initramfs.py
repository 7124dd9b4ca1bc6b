from __future__ import annotations

import dataclasses
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import ImageBuildFailed
from magpie_local.images import initramfs
from magpie_local.images.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

DEPENDENCIES = """kernel/virtio.ko: kernel/virtio_ring.ko
kernel/virtio_ring.ko:
kernel/virtio-rng.ko: kernel/virtio.ko kernel/virtio_ring.ko
"""
BUILTIN = "kernel/fs/ext4/ext4.ko\n"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    path = tmp_path / "modules.tar"
    files = {name: name.encode() for name in initramfs.read_dependencies(DEPENDENCIES)}
    files |= {"modules.dep": DEPENDENCIES.encode(), "modules.builtin": BUILTIN.encode()}
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"6.1/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def make(modules: Path, *names: str) -> bytes:
    recipe = dataclasses.replace(load_recipe("base"), modules=names)
    busybox = modules.with_name("busybox")
    busybox.write_bytes(b"busybox")
    return initramfs.make(recipe, release="6.1", modules=modules, busybox=busybox)


def test_modules_come_after_what_they_need() -> None:
    needs = initramfs.read_dependencies(DEPENDENCIES)

    order = initramfs.load_order(["virtio_rng", "virtio"], needs)

    assert order == ["kernel/virtio_ring.ko", "kernel/virtio.ko", "kernel/virtio-rng.ko"]


def test_module_names_are_those_of_the_kernel() -> None:
    assert initramfs.module_name("kernel/drivers/virtio-rng.ko.xz") == "virtio_rng"


def test_init_loads_the_modules_that_are_not_built_in(modules: Path) -> None:
    data = make(modules, "virtio_rng", "ext4")

    assert b"modprobe -a virtio_rng\n" in data
    assert b"lib/modules/6.1/kernel/virtio-rng.ko\0" in data


def test_a_module_that_the_kernel_lacks_is_named(modules: Path) -> None:
    with pytest.raises(ImageBuildFailed, match="no module floppy"):
        make(modules, "virtio", "floppy")


def test_a_modules_signature_is_taken_off_and_nothing_else():
    module = b"\x7fELF and the rest"
    signature = b"s" * 300
    signed = module + signature + bytes(8) + len(signature).to_bytes(4, "big") + b"~Module signature appended~\n"

    assert initramfs.unsigned(signed) == module
    assert initramfs.unsigned(module) == module
