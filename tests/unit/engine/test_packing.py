"""What a job is given: packed whole and byte for byte, or refused before anything starts."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path

import pytest

from magpie_local.domain.archive import Upload
from magpie_local.engine.packing import pack
from magpie_local.errors import HostDiskFull, InvalidInput


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("a.py", "sub/b.sh", "sub/.hidden", "ü" * 60 + "/n"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "empty").mkdir(mode=0o711)
    (folder / "sub/b.sh").chmod(0o755)
    return folder


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return {one.name: one for one in archive.getmembers()}


def test_bytes_files_and_folders_come_as_they_are(project: Path, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    uploads = [
        Upload(path="in/data.bin", content=data, mode=0o600), Upload(path="/opt/b", source=project / "sub/b.sh"),
        Upload(path="src", source=project), Upload(path="none", content=b""),
    ]  # fmt: skip
    packed = pack(uploads, tmp_path / "tar")
    assert packed.path.stat().st_mode & 0o777 == 0o600
    content = packed.path.read_bytes()
    assert (packed.size, packed.crc) == (len(content), zlib.crc32(content))
    assert b"".join(packed.blocks()) == content
    found = members(packed.path)
    assert set(found) == {
        "in/data.bin", "/opt/b", "none", "src", "src/a.py", "src/sub", "src/sub/b.sh", "src/sub/.hidden", "src/empty",
        "src/" + "ü" * 60, "src/" + "ü" * 60 + "/n",
    }  # fmt: skip
    assert {name: found[name].mode for name in ("in/data.bin", "/opt/b", "src/empty", "src/sub/b.sh")} == {
        "in/data.bin": 0o600, "/opt/b": 0o755, "src/empty": 0o711, "src/sub/b.sh": 0o755,
    }  # fmt: skip
    assert {(one.uid, one.gid, one.uname) for one in found.values()} == {(0, 0, "")}
    with tarfile.open(packed.path) as archive:
        stored = archive.extractfile("in/data.bin")
        assert stored is not None
        assert stored.read() == data


def test_a_folder_may_be_the_working_directory_itself(project: Path, tmp_path: Path) -> None:
    packed = pack([Upload(path=".", source=project)], tmp_path / "tar")
    assert {"a.py", "sub/b.sh", "empty"} <= set(members(packed.path))
    assert "." not in members(packed.path)


@pytest.mark.parametrize(
    "path", ["", "/", "a/", "../x", "a/../b", "a//b", "./a", "a/.", "..", "x\0y", "n" * 256, "d/" * 2100 + "x"]
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput, match="uploads"):
        pack([Upload(path=path, content=b"x")], tmp_path / "tar")
    assert not (tmp_path / "tar").exists()


def test_links_and_what_is_no_file_are_refused_by_name(project: Path, tmp_path: Path) -> None:
    (project / "sub/link").symlink_to("b.sh")
    with pytest.raises(InvalidInput, match="symbolic link") as refused:
        pack([Upload(path="x", source=project)], tmp_path / "tar")
    assert str(refused.value.value).endswith("sub/link")
    (project / "sub/link").unlink()
    os.mkfifo(project / "sub/fifo")
    with pytest.raises(InvalidInput, match="neither a file nor a folder") as refused:
        pack([Upload(path="x", source=project)], tmp_path / "tar")
    assert str(refused.value.value).endswith("sub/fifo")
    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        pack([Upload(path="x", source=project / "sub/fifo")], tmp_path / "tar")
    assert not (tmp_path / "tar").exists()


@pytest.mark.parametrize(
    "upload",
    [
        Upload(path="x"), Upload(path="x", content=b"", source=Path("/etc/hostname")),
        Upload(path="x", source=Path("/no/such")), Upload(path=".", source=Path("/etc/hostname")),
        Upload(path="x", content=b"", mode=-1), Upload(path="x", content=b"", mode=0o10000),
    ],
)  # fmt: skip
def test_what_has_no_content_is_refused(tmp_path: Path, upload: Upload) -> None:
    with pytest.raises(InvalidInput, match="uploads"):
        pack([upload], tmp_path / "tar")
    assert not (tmp_path / "tar").exists()


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        pack([Upload(path="x", content=b"1"), Upload(path="x", content=b"2")], tmp_path / "tar")


def test_a_file_that_is_cut_short_meanwhile_is_told(project: Path, tmp_path: Path) -> None:
    # The kernel says that this one has a page, and gives less.
    short = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not short.exists() or short.stat().st_size == 0:
        pytest.skip("this kernel has no such file")
    with pytest.raises(InvalidInput, match="shorter"):
        pack([Upload(path="x", source=short)], tmp_path / "tar")


def test_a_full_disk_is_told(project: Path) -> None:
    with pytest.raises(HostDiskFull):
        _pack_to_full(project)


def _pack_to_full(project: Path) -> None:
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        pack([Upload(path="x", content=bytes(1_000_000))], project.parent / "tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        assert not (project.parent / "tar").exists()
