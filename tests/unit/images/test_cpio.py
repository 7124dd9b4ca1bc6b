from __future__ import annotations

import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from magpie_local.images import cpio, tools

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = [
    cpio.folder("etc"),
    cpio.file("etc/fstab", b"odd length\n"),
    cpio.file("init", b"#!/bin/sh\n", executable=True),
    cpio.link("fd", "/proc/self/fd"),
    cpio.file("empty", b""),
]


def unpack(data: bytes, folder: Path) -> None:
    busybox = tools.find("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    subprocess.run([busybox, "cpio", "-i"], input=data, cwd=folder, check=True, capture_output=True)


def test_another_implementation_reads_back_contents_modes_and_links(tmp_path: Path) -> None:
    unpack(cpio.archive(ENTRIES), tmp_path)

    assert (tmp_path / "etc" / "fstab").read_bytes() == b"odd length\n"
    assert stat.S_IMODE((tmp_path / "init").stat().st_mode) == 0o755
    assert str((tmp_path / "fd").readlink()) == "/proc/self/fd"


def test_an_empty_file_does_not_shift_what_follows(tmp_path: Path) -> None:
    unpack(cpio.archive([cpio.file("a", b""), cpio.file("b", b"b")]), tmp_path)

    assert (tmp_path / "a").read_bytes() == b""
    assert (tmp_path / "b").read_bytes() == b"b"


def test_the_same_entries_give_the_same_bytes() -> None:
    assert cpio.archive(ENTRIES) == cpio.archive(list(ENTRIES))


def test_every_record_begins_at_a_multiple_of_four() -> None:
    data = cpio.archive(ENTRIES)

    assert len(data) % 4 == 0
    assert all(data.find(entry.path.encode() + b"\0") % 4 == 110 % 4 for entry in ENTRIES)
