"""The guest's kernel, unpacked at build time: an emulated guest needs 0.3 s to unpack it at every boot.

On x86-64 a kernel comes as a bzImage: real-mode setup code, then a program that carries the kernel in packed form
(the boot protocol in the
kernel's Documentation/arch/x86/boot.rst names the fields). QEMU starts the kernel within directly where it has the
note that names
its entry for that (PVH). What is not of this kind, or packed in a way that no tool here knows, stays as it is and
only boots slower.
"""

from __future__ import annotations

import asyncio
import re
import struct
from typing import TYPE_CHECKING

from magpie_local.images import tools

if TYPE_CHECKING:
    from pathlib import Path

STEP = "kernel"

_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_VERSION, _VERSION_AT, _WITH_PAYLOAD = struct.Struct("<H"), 0x206, 0x0208
_SECTORS_AT, _SECTOR = 0x1F1, 512
_PAYLOAD, _PAYLOAD_AT = struct.Struct("<II"), 0x248
_SIZE_APPENDED = 4
#: What the packed kernel begins with, and the tool that unpacks it from a file to standard output.
_PACKERS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
}
#: An ELF note of type XEN_ELFNOTE_PHYS32_ENTRY (18) by "Xen", with an address of 4 or 8 bytes.
_PVH_NOTE = re.compile(rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0")


async def unpack(path: Path, folder: Path) -> bool:
    """Replace the bzImage at `path` by the kernel within; return whether that was possible.

    Args:
        path: the kernel's file.
        folder: for what is needed on the way.
    """
    found = payload(await asyncio.to_thread(path.read_bytes))
    if found is None or tools.find(found[0]) is None:
        return False
    tool, packed = found
    part = folder / "kernel.packed"
    await asyncio.to_thread(part.write_bytes, packed)
    try:
        kernel = await tools.output(STEP, tool, "-dc", str(part), cwd=folder)
    finally:
        part.unlink()
    if not (kernel.startswith(b"\x7fELF") and _PVH_NOTE.search(kernel)):
        return False
    await asyncio.to_thread(path.write_bytes, kernel)
    return True


def payload(image: bytes) -> tuple[str, bytes] | None:
    """Return the unpacking tool and the packed kernel of a bzImage; None where it is none, or of an unknown kind."""
    if image[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC or _VERSION.unpack_from(image, _VERSION_AT)[0] < _WITH_PAYLOAD:
        return None
    offset, size = _PAYLOAD.unpack_from(image, _PAYLOAD_AT)
    start = ((image[_SECTORS_AT] or 4) + 1) * _SECTOR + offset
    packed = image[start : start + size]
    tool = next((tool for magic, tool in _PACKERS.items() if packed.startswith(magic)), None)
    if tool is None:
        return None
    # gzip's format ends with the unpacked size; behind the others the kernel's build appends it.
    return tool, packed if tool == "gzip" else packed[:-_SIZE_APPENDED]
