"""Files to and from a real OpenSSH server."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import GuestFileNotFound, SshError, TransferError, TransferRefused
from magpie_local.ports.shell import CopyLimits, CopyReport

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def make_tree(top: Path) -> Path:
    """Make a folder with what a copy must keep, and what it must leave out."""
    (top / "empty").mkdir(parents=True)
    (top / "below" / "deeper").mkdir(parents=True)
    (top / "below" / "deeper" / "large").write_bytes(os.urandom(3_000_001))
    (top / "none").write_bytes(b"")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o4755)
    (top / "names with\nnewline and 'quotes'").write_text("odd")
    (top / os.fsdecode(b"no \xff utf-8")).write_text("odd")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe")
    (top / "below").chmod(0o555)
    (top / "none").chmod(0o400)
    return top


#: What that comes to.
REPORT = CopyReport(
    files=5, folders=4, size=3_000_017, notes=("link: a symbolic link", "pipe: neither a file nor a folder")
)


def assert_is_copy(copy: Path, original: Path) -> None:
    assert {str(path.relative_to(copy)): content(path) for path in copy.rglob("*")} == {
        str(path.relative_to(original)): content(path)
        for path in original.rglob("*")
        if path.name not in ("link", "pipe")
    }


def content(path: Path) -> tuple[int, bytes | None]:
    return mode(path) & 0o777, None if path.is_dir() else path.read_bytes()


async def test_a_folder_is_downloaded_with_all_that_is_in_it(shell, tmp_path):
    tree = make_tree(tmp_path / "tree")
    tree.chmod(0o555)

    report = await shell.files.download(str(tree), tmp_path / "copy")

    assert_is_copy(tmp_path / "copy", tree)
    assert (report.files, report.folders, report.size, sorted(report.notes)) == (
        REPORT.files, REPORT.folders, REPORT.size, sorted(REPORT.notes),
    )  # fmt: skip
    assert (mode(tmp_path / "copy"), mode(tmp_path / "copy" / "run.sh")) == (0o555, 0o755)


async def test_a_folder_is_uploaded_with_all_that_is_in_it(shell, tmp_path):
    tree = make_tree(tmp_path / "tree")
    tree.chmod(0o555)

    report = await shell.files.upload(tree, str(tmp_path / "copy"))

    assert_is_copy(tmp_path / "copy", tree)
    assert report == REPORT
    assert (mode(tmp_path / "copy"), mode(tmp_path / "copy" / "run.sh")) == (0o555, 0o755)


@pytest.mark.parametrize("size", [0, 1, 255 * 1024, 255 * 1024 + 1, 9_000_000])
async def test_a_file_goes_there_and_back_as_it_was(shell, tmp_path, size):
    (tmp_path / "file").write_bytes(os.urandom(size))
    (tmp_path / "file").chmod(0o640)

    await shell.files.upload(tmp_path / "file", str(tmp_path / "there"))
    await shell.files.download(str(tmp_path / "there"), tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    assert mode(tmp_path / "there") == mode(tmp_path / "back") == 0o640
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["back", "file", "there"]


async def test_a_file_that_is_made_as_it_is_read_is_copied_whole(shell, tmp_path):
    # Such files say that they have no bytes at all.
    await shell.files.download("/proc/version", tmp_path / "version")

    assert (tmp_path / "version").read_bytes().startswith(b"Linux version ")


async def test_progress_is_told_as_bytes_in_all(shell, tmp_path):
    tree = make_tree(tmp_path / "tree")
    told: list[tuple[str, int]] = []

    await shell.files.download(str(tree), tmp_path / "copy", on_progress=lambda *args: told.append(args))

    assert told[-1][1] == REPORT.size
    assert [size for _, size in told] == sorted(size for _, size in told)
    assert {path for path, _ in told} >= {"run.sh", "below/deeper/large"}


@pytest.mark.parametrize("limits", [CopyLimits(entries=8), CopyLimits(size=REPORT.size - 1)], ids=["entries", "size"])
@pytest.mark.parametrize("way", ["download", "upload"])
async def test_more_than_the_limits_allow_is_not_copied(shell, tmp_path, limits, way):
    tree = make_tree(tmp_path / "tree")

    if way == "download":
        call = shell.files.download(str(tree), tmp_path / "copy", limits=limits)
    else:
        call = shell.files.upload(tree, str(tmp_path / "copy"), limits=limits)
    with pytest.raises(TransferRefused, match="more"):
        await call

    assert {path.name for path in tmp_path.iterdir()} == {"tree", "a b%h's"}


async def test_exactly_the_limits_are_copied(shell, tmp_path):
    tree = make_tree(tmp_path / "tree")
    limits = CopyLimits(entries=REPORT.files + REPORT.folders + len(REPORT.notes), size=REPORT.size)

    assert (await shell.files.download(str(tree), tmp_path / "copy", limits=limits)).size == REPORT.size


async def test_a_sparse_file_of_a_terabyte_is_refused_at_once(shell, tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(TransferRefused, match=str(1 << 40)):
        await shell.files.download(str(tmp_path / "sparse"), tmp_path / "copy")


@pytest.mark.parametrize("way", ["download", "upload"])
async def test_nothing_is_overwritten_unless_asked_for(shell, tmp_path, way):
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")

    async def copy(**more: bool) -> None:
        if way == "download":
            await shell.files.download(str(tmp_path / "new"), tmp_path / "old", **more)
        else:
            await shell.files.upload(tmp_path / "new", str(tmp_path / "old"), **more)

    with pytest.raises(TransferRefused, match="in the way"):
        await copy()
    assert (tmp_path / "old").read_text() == "old"
    await copy(replace=True)
    assert (tmp_path / "old").read_text() == "new"


@pytest.mark.parametrize("kind", ["folder", "link"])
async def test_only_a_file_is_replaced(shell, tmp_path, kind):
    (tmp_path / "new").write_text("new")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    old = tmp_path / "kept"
    if kind == "link":
        old = tmp_path / "link"
        old.symlink_to(tmp_path / "kept" / "file")

    with pytest.raises(TransferRefused, match="in the way"):
        await shell.files.download(str(tmp_path / "new"), old, replace=True)
    with pytest.raises(TransferRefused, match="in the way"):
        await shell.files.upload(tmp_path / "new", str(old), replace=True)
    assert (tmp_path / "kept" / "file").read_text() == "kept"


@pytest.mark.parametrize("way", ["download", "upload"])
async def test_a_folder_takes_the_place_of_an_empty_one_only(shell, tmp_path, way):
    (tmp_path / "new" / "below").mkdir(parents=True)
    (tmp_path / "old").mkdir()

    async def copy() -> None:
        if way == "download":
            await shell.files.download(str(tmp_path / "new"), tmp_path / "old", replace=True)
        else:
            await shell.files.upload(tmp_path / "new", str(tmp_path / "old"), replace=True)

    await copy()
    assert (tmp_path / "old" / "below").is_dir()

    (tmp_path / "new" / "more").mkdir()
    with pytest.raises(TransferRefused, match="in the way"):
        await copy()
    assert not (tmp_path / "old" / "more").exists()


async def test_a_folder_is_listed_by_name(shell, tmp_path):
    tree = make_tree(tmp_path / "tree")

    entries = {entry.name: entry for entry in await shell.files.list(str(tree))}

    assert list(entries) == sorted(path.name for path in tree.iterdir())
    kinds = [entries[name].kind for name in ("below", "link", "none", "pipe")]
    assert kinds == ["folder", "link", "file", "other"]
    assert (entries["run.sh"].size, entries["run.sh"].mode) == (10, 0o4755)
    assert entries["run.sh"].modified == int((tree / "run.sh").stat().st_mtime)


async def test_a_file_is_written_and_read_from_memory(shell, tmp_path):
    data = os.urandom(1_000_000)
    path = tmp_path / "file"

    await shell.files.write(str(path), b"before")
    await shell.files.write(str(path), data, mode=0o600)

    assert await shell.files.read(str(path)) == data
    assert await shell.files.read(str(path), limit=len(data)) == data
    assert mode(path) == 0o600
    with pytest.raises(TransferRefused, match="more than 999999 bytes"):
        await shell.files.read(str(path), limit=len(data) - 1)


async def test_a_relative_path_begins_at_the_users_home(shell):
    home = (await shell.run("cd; pwd")).stdout.decode().strip()

    assert [entry.name for entry in await shell.files.list(".")] == sorted(os.listdir(home))


async def test_what_is_not_there_is_told_so(shell, tmp_path):
    gone = str(tmp_path / "gone")

    for call in (shell.files.list(gone), shell.files.read(gone), shell.files.write(gone + "/x", b""),
                 shell.files.download(gone, tmp_path / "copy")):  # fmt: skip
        with pytest.raises(GuestFileNotFound, match="gone"):
            await call


async def test_what_is_something_else_is_told_so(shell, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(TransferError):
        await shell.files.read(str(tmp_path))
    with pytest.raises((TransferError, GuestFileNotFound)):
        await shell.files.list(str(tmp_path / "file"))
    with pytest.raises(TransferRefused, match="neither"):
        await shell.files.download("/dev/null", tmp_path / "copy")
    with pytest.raises(TransferRefused, match="neither"):
        await shell.files.upload(type(tmp_path)("/dev/null"), str(tmp_path / "copy"))


async def test_a_local_folder_that_does_not_exist_is_told_so(shell, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(TransferError, match="No such file"):
        await shell.files.download(str(tmp_path / "file"), tmp_path / "gone" / "copy")
    with pytest.raises(TransferError, match="No such file"):
        await shell.files.upload(tmp_path / "gone", str(tmp_path / "copy"))


@pytest.mark.parametrize("way", ["download", "upload"])
async def test_a_cancelled_copy_leaves_nothing(shell, tmp_path, way):
    (tmp_path / "file").write_bytes(bytes(20_000_000))
    begun = asyncio.Event()
    if way == "download":
        call = shell.files.download(str(tmp_path / "file"), tmp_path / "copy", on_progress=lambda *_: begun.set())
    else:
        call = shell.files.upload(tmp_path / "file", str(tmp_path / "copy"), on_progress=lambda *_: begun.set())
    copying = asyncio.create_task(call)

    await begun.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying

    assert {path.name for path in tmp_path.iterdir()} == {"file", "a b%h's"}
    assert await shell.files.read(str(tmp_path / "file"), limit=20_000_000) == bytes(20_000_000)


async def test_a_connection_that_breaks_ends_a_copy_and_the_next_one_works(sshd, shell, tmp_path):
    (tmp_path / "file").write_bytes(bytes(20_000_000))
    begun = asyncio.Event()
    copying = asyncio.create_task(
        shell.files.download(str(tmp_path / "file"), tmp_path / "copy", on_progress=lambda *_: begun.set())
    )
    await begun.wait()
    sshd.cut()

    with pytest.raises((SshError, TransferError)):
        await copying
    assert {path.name for path in tmp_path.iterdir()} == {"file", "a b%h's"}
    await shell.files.download(str(tmp_path / "file"), tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == 20_000_000
