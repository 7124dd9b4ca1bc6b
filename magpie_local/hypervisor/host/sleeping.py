"""A domain's whole state in one file, and a domain with the same devices that goes on from it.

    0          magic, size and CRC-32 of the stream, size and CRC-32 of the XML; zeros until all of it is on the disk
    32         the domain's XML, so that it comes back with the very devices and addresses that it had
    64 KiB     QEMU's migration stream, memory and all

QEMU itself notices a stream that is cut off, but not a page with a wrong byte; hence the checksum.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import xml.etree.ElementTree as ET
import zlib
from typing import TYPE_CHECKING, Any

from magpie_local.hypervisor.host.monitor import SnapshotError, monitor
from magpie_local.hypervisor.host.snapshots import await_migration

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = b"MAGPIE\x01\n"
_HEADER = struct.Struct("<8sQIII")
_XML_AT, _STREAM_AT = 32, 1 << 16
_BLOCK = 1 << 20
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_ARGUMENT = f"{{{_QEMU}}}arg"
#: Seconds, and bytes that even a slow disk takes in one.
_PATIENCE, _PACE = 60.0, 10 * _BLOCK
#: Bytes per second: no limit. QEMU's own would be 128 MiB/s.
_UNLIMITED = 1 << 40
_EVERYTHING = [{"capability": "x-ignore-shared", "state": False}]


def save(domain: Any, path: str) -> int:
    """Write a paused domain's state to a file that is there, empty; return its size once it is on the disk.

    The domain's disks are flushed, and it must not go on as long as anybody may load the file.
    """
    import libvirt

    text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).encode()
    if len(text) > _STREAM_AT - _XML_AT:
        raise SnapshotError(f"its description has {len(text)} bytes")
    memory = int(domain.info()[1]) * 1024
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, text, _XML_AT)
        os.lseek(descriptor, _STREAM_AT, os.SEEK_SET)
        monitor(domain, "migrate-set-capabilities", capabilities=_EVERYTHING)
        monitor(domain, "migrate-set-parameters", **{"max-bandwidth": _UNLIMITED})
        monitor(domain, "getfd", descriptor, fdname="state")
        with _reachable(_own_folder(text.decode()), os.path.dirname(path)):
            monitor(domain, "migrate", uri="fd:state")
            await_migration(domain, _PATIENCE + memory / _PACE)
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        header = _HEADER.pack(_MAGIC, size - _STREAM_AT, _checksum(descriptor), len(text), zlib.crc32(text))
        # The last thing written: a file with a header is whole.
        os.pwrite(descriptor, header, 0)
        os.fsync(descriptor)
        return size
    finally:
        os.close(descriptor)


def description(path: str) -> str:
    """Return the XML of the domain in a whole file, as it would come back."""
    with open(path, "rb") as file:
        size = _HEADER.unpack(file.read(_HEADER.size))[3]
        return _at_home(os.pread(file.fileno(), size, _XML_AT).decode(), os.path.dirname(path))


def load(connection: Any, path: str) -> Any:
    """Return a domain, paused, that stands where the file says; where that fails, there is none.

    Raises:
        SnapshotError: the file is missing or damaged, or does not load here.
        libvirtError: the domain could not be started; the file may be as good as ever.
    """
    import libvirt

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SnapshotError(f"its file can't be read: {error.strerror}") from error
    try:
        text, size = _checked(descriptor)
        text = _at_home(text, os.path.dirname(path))
        domain = connection.createXML(_awaiting(text), libvirt.VIR_DOMAIN_START_PAUSED)
        try:
            os.lseek(descriptor, _STREAM_AT, os.SEEK_SET)
            monitor(domain, "getfd", descriptor, fdname="state")
            monitor(domain, "migrate-incoming", uri="fd:state")
            await_migration(domain, _PATIENCE + size / _PACE)
        except BaseException as error:
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            # QEMU aborts at some damage, and all that libvirt then knows is that its monitor is silent.
            if isinstance(error, libvirt.libvirtError) and connection.isAlive() == 1:
                raise SnapshotError(str(error)) from error
            raise
        return domain
    finally:
        os.close(descriptor)


def _checked(descriptor: int) -> tuple[str, int]:
    """Return the XML and the stream's size, unless anything has changed since it was saved."""
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size or header[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError("the file was not written to its end")
    _, size, crc, text_size, text_crc = _HEADER.unpack(header)
    text = os.pread(descriptor, text_size, _XML_AT)
    found = os.fstat(descriptor).st_size - _STREAM_AT
    if found != size:
        raise SnapshotError(f"the file has {found} bytes instead of {size}")
    if zlib.crc32(text) != text_crc or _checksum(descriptor) != crc:
        raise SnapshotError("the file is damaged: its checksum is wrong")
    return text.decode(), size


def _checksum(descriptor: int) -> int:
    crc, at = 0, _STREAM_AT
    while block := os.pread(descriptor, _BLOCK, at):
        crc = zlib.crc32(block, crc)
        at += len(block)
    return crc


def _at_home(text: str, folder: str) -> str:
    """Return the XML with the domain's own files in `folder`, where that of a VM from the pool was moved under it."""
    before = _own_folder(text)
    return text if os.path.isdir(before) else text.replace(f"{before}/", f"{folder}/")


@contextlib.contextmanager
def _reachable(before: str, now: str) -> Iterator[None]:
    """Have a folder that was moved be there under its old name as well: QEMU opens disks again at a migration's end."""
    if os.path.lexists(before):
        yield
        return
    os.makedirs(os.path.dirname(before), mode=0o700, exist_ok=True)
    os.symlink(now, before)
    try:
        yield
    finally:
        os.unlink(before)


def _own_folder(text: str) -> str:
    for disk in ET.fromstring(text).iterfind("devices/disk"):
        source = disk.find("source")
        # The image's disk is read-only, and a workspace's has a name of its own.
        if source is not None and disk.find("readonly") is None and disk.find("serial") is None:
            return os.path.dirname(source.get("file", ""))
    raise SnapshotError("its description is not one of ours")


def _awaiting(text: str) -> str:
    """Return the XML of a domain that waits for the stream, with memory of its own: a fork's was its template's."""
    ET.register_namespace("qemu", _QEMU)
    domain = ET.fromstring(text)
    line = domain.find(f"{{{_QEMU}}}commandline")
    if line is None:
        raise SnapshotError("its description is not one of ours")
    values = [argument.get("value", "") for argument in line.findall(_ARGUMENT)]
    for argument in line.findall(_ARGUMENT):
        line.remove(argument)
    for value in [*_without_incoming(values), "-incoming", "defer"]:
        ET.SubElement(line, _ARGUMENT, value=value)
    return ET.tostring(domain, encoding="unicode")


def _without_incoming(values: list[str]) -> list[str]:
    at = values.index("-incoming") if "-incoming" in values else len(values)
    return [_own_memory(value) for value in values[:at] + values[at + 2 :]]


def _own_memory(value: str) -> str:
    backend = json.loads(value) if value.startswith("{") else {}
    if backend.get("qom-type") != "memory-backend-file":
        return value
    return json.dumps({"qom-type": "memory-backend-ram", "id": backend["id"], "size": backend["size"]})
