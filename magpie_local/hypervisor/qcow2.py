"""Reads the metadata of qcow2 files, and nothing that they point to outside of themselves (F76, F83).

qemu-img would follow a backing file or a data file wherever it leads, and takes milliseconds to start. What is checked
here takes microseconds, and names what is wrong. Layout: docs/interop/qcow2.txt in QEMU's sources; all numbers are
big-endian.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

MAGIC = b"QFI\xfb"
#: What is read at first: the header and its extensions, which must lie in the first cluster.
_HEAD = 64 * 1024
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_BACKING_FORMAT = 0xE2792ACA
#: QEMU's own bounds for the two tables, bytes.
_MAX_L1, _MAX_REFCOUNTS = 32 * 1024**2, 8 * 1024**2
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COPIED = 1 << 63
#: Second-level tables that are looked at: those of the first and of the last 16 GiB that were written.
_L2_LOOK = 32

#: Incompatible features, by bit. A dirty file is one whose reference counts may be stale: QEMU mends that by itself.
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2


class BadDiskError(ValueError):
    """What is wrong with a file, in words that follow its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the first cluster says, checked against the file's length."""

    version: int
    #: The name of the file below, as it is written.
    backing: str | None
    backing_format: str | None
    cluster_bits: int
    #: Virtual size, bytes.
    size: int
    encryption: int
    #: First-level table: entries, and where it begins.
    l1_entries: int
    l1_offset: int
    #: Table of reference counts: where it begins, and how many clusters it takes.
    refcounts_offset: int
    refcounts_clusters: int
    #: Snapshots inside the file.
    snapshots: int
    incompatible: int
    refcount_order: int

    @property
    def cluster(self) -> int:
        """Bytes of one cluster."""
        return 1 << self.cluster_bits


def read_header(file: BinaryIO, most: int) -> Header:
    """Return a file's header; virtual sizes up to `most` bytes are fine.

    Raises:
        BadDiskError: it is no qcow2 file, or one that can't be what it says.
    """
    length = os.fstat(file.fileno()).st_size
    if length == 0:
        raise BadDiskError("is empty")
    file.seek(0)
    data = file.read(_HEAD)
    if data[:4] != MAGIC:
        raise BadDiskError("is no qcow2 file")
    if len(data) < _V2.size:
        raise BadDiskError("is cut off in its header")
    header = _parse(data)
    _check_tables(header, length, most)
    return header


def check_ours(file: BinaryIO, header: Header) -> None:
    """Raise BadDiskError unless a file is whole, as far as its tables tell, and such as qemu-img makes for us."""
    length = os.fstat(file.fileno()).st_size
    odd = header.version != 3 or header.encryption or header.snapshots or header.refcount_order != 4
    if odd or header.incompatible & (DATA_FILE | EXTENDED_L2):
        raise BadDiskError("is a qcow2 file of another kind than we make")
    if header.incompatible & CORRUPT:
        raise BadDiskError("is marked as corrupt by QEMU")
    counts = _table(file, header.refcounts_offset, header.refcounts_clusters * header.cluster // 8)
    _check_places(counts, header.cluster, length, "reference counts")
    if not counts[0]:
        raise BadDiskError("has no reference counts")
    tables = [entry & ~_COPIED for entry in l1_table(file, header) if entry]
    _check_places(array("Q", tables), header.cluster, length, "tables")
    for at in tables if len(tables) <= _L2_LOOK else tables[: _L2_LOOK // 2] + tables[-_L2_LOOK // 2 :]:
        # Of the entries that are of this file alone, the greatest number is the one with the highest place.
        highest = max(_table(file, at, header.cluster // 8))
        if highest & _COPIED and highest & _OFFSET >= length:
            raise BadDiskError("is cut off in its contents")


def l1_table(file: BinaryIO, header: Header) -> array[int]:
    """Return the first-level table: all zero where nothing was ever written to the file.

    Raises:
        BadDiskError: it is cut off.
    """
    return _table(file, header.l1_offset, header.l1_entries)


def read_start(file: BinaryIO, header: Header, offset: int, count: int) -> bytes:
    """Return `count` bytes of the contents from `offset` on, which lie in the first cluster; zeros where none does.

    Raises:
        BadDiskError: the tables lead nowhere.
    """
    nothing = bytes(count)
    table = l1_table(file, header)[0] & _OFFSET
    if not table:
        return nothing
    entry = _table(file, table, 1)[0]
    if not entry & _OFFSET or entry & 1:
        return nothing
    file.seek((entry & _OFFSET) + offset)
    return file.read(count).ljust(count, b"\0")


def _parse(data: bytes) -> Header:
    (_, version, backing_at, backing_size, cluster_bits, size, encryption, l1_entries, l1_offset, refcounts_offset,
     refcounts_clusters, snapshots, _) = _V2.unpack_from(data)  # fmt: skip
    if version not in (2, 3):
        raise BadDiskError(f"is a qcow2 file of version {version}")
    if not 9 <= cluster_bits <= 21:
        raise BadDiskError(f"has clusters of 2^{cluster_bits} bytes")
    incompatible, order, end = 0, 4, _V2.size
    if version == 3:
        if len(data) < _V2.size + _V3.size:
            raise BadDiskError("is cut off in its header")
        incompatible, _, _, order, end = _V3.unpack_from(data, _V2.size)
    if incompatible & ~_KNOWN:
        raise BadDiskError(f"has unknown features ({incompatible:#x})")
    if end < _V2.size or end > 1 << cluster_bits or end % 8 or order > 6:
        raise BadDiskError("has a header that makes no sense")
    first = data[: 1 << cluster_bits]
    return Header(
        version=version, backing=_backing(first, backing_at, backing_size),
        backing_format=_extension(first, end, _BACKING_FORMAT), cluster_bits=cluster_bits, size=size,
        encryption=encryption, l1_entries=l1_entries, l1_offset=l1_offset, refcounts_offset=refcounts_offset,
        refcounts_clusters=refcounts_clusters, snapshots=snapshots, incompatible=incompatible, refcount_order=order,
    )  # fmt: skip


def _backing(first: bytes, at: int, size: int) -> str | None:
    if not at:
        return None
    if not 0 < size < 1024 or at + size > len(first):
        raise BadDiskError("names a file below it in a place that makes no sense")
    return first[at : at + size].decode(errors="backslashreplace")


def _extension(first: bytes, at: int, wanted: int) -> str | None:
    """Return the text of a header extension, if it is there."""
    while at + 8 <= len(first):
        kind, size = struct.unpack_from(">II", first, at)
        if kind == 0:
            break
        if kind == wanted:
            return first[at + 8 : at + 8 + size].decode(errors="backslashreplace")
        at += 8 + -(-size // 8) * 8
    return None


def _check_tables(header: Header, length: int, most: int) -> None:
    if not 0 < header.size <= most or header.size % 512:
        raise BadDiskError(f"has a virtual size of {header.size} bytes; at most {most} are allowed")
    per_table = header.cluster // (16 if header.incompatible & EXTENDED_L2 else 8)
    needed = -(-header.size // (header.cluster * per_table))
    if not needed <= header.l1_entries <= _MAX_L1 // 8:
        raise BadDiskError(f"has a first-level table of {header.l1_entries} entries")
    counts = header.refcounts_clusters * header.cluster
    if not 0 < counts <= _MAX_REFCOUNTS:
        raise BadDiskError(f"has a reference count table of {counts} bytes")
    for at, size in ((header.l1_offset, header.l1_entries * 8), (header.refcounts_offset, counts)):
        if at % header.cluster or at == 0:
            raise BadDiskError("has tables in places that make no sense")
        if at + size > length:
            raise BadDiskError("is cut off in its tables")


def _check_places(places: array[int], cluster: int, length: int, what: str) -> None:
    for at in places:
        if at % cluster:
            raise BadDiskError(f"has {what} in places that make no sense")
        if at and at + cluster > length:
            raise BadDiskError(f"is cut off in its {what}")


def _table(file: BinaryIO, at: int, entries: int) -> array[int]:
    file.seek(at)
    data = file.read(entries * 8)
    if len(data) < entries * 8:
        raise BadDiskError("is cut off in its tables")
    table = array("Q", data)
    if sys.byteorder == "little":
        table.byteswap()
    return table
