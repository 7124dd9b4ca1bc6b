"""The kernel is taken out of its bzImage where that is possible, and left alone where it is not."""

from __future__ import annotations

import gzip
import lzma
import struct

import pytest

from magpie_local.images import kernel

NOTE = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x10\0\0\1"
KERNEL = b"\x7fELF and code " * 100 + NOTE
SIZE = struct.pack("<I", len(KERNEL))


def bzimage(packed: bytes, version: int = 0x20F) -> bytes:
    head = bytearray(3 * 512)
    head[0x1F1] = 2
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, 100, len(packed))
    return bytes(head) + bytes(100) + packed + b"the rest of the loader"


@pytest.mark.parametrize(
    "packed", [gzip.compress(KERNEL), lzma.compress(KERNEL, check=lzma.CHECK_CRC32) + SIZE], ids=["gzip", "xz"]
)
async def test_the_kernel_within_takes_the_place_of_its_image(tmp_path, packed):
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(packed))

    assert await kernel.unpack(path, tmp_path)
    assert path.read_bytes() == KERNEL
    assert [entry.name for entry in tmp_path.iterdir()] == ["vmlinuz"]


@pytest.mark.parametrize(
    "image",
    [
        b"", b"\x7fELF", bytes(4096), bzimage(b"packed by nobody"), bzimage(gzip.compress(KERNEL), version=0x0207),
        bzimage(gzip.compress(KERNEL.replace(NOTE, b""))), bzimage(gzip.compress(b"no ELF" + NOTE)),
    ],
    ids=["empty", "no bzImage", "zeros", "unknown packer", "old protocol", "no PVH note", "no ELF"],
)  # fmt: skip
async def test_what_cannot_be_started_directly_stays_as_it_is(tmp_path, image):
    path = tmp_path / "vmlinuz"
    path.write_bytes(image)

    assert not await kernel.unpack(path, tmp_path)
    assert path.read_bytes() == image


async def test_without_the_tool_the_image_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("magpie_local.images.tools.SEARCH_PATH", str(tmp_path))
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(gzip.compress(KERNEL)))

    assert not await kernel.unpack(path, tmp_path)
