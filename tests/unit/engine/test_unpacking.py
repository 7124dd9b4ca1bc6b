"""Archives from hostile guests: nothing outside the target is touched, whatever they hold (F98)."""

from __future__ import annotations

import io
import os
import random
import stat
import sys
import tarfile
import zlib
from itertools import product
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.archive import TarReader, parse_records
from magpie_local.engine.unpacking import unpack
from magpie_local.errors import MagpieError, TransferRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from magpie_local.engine.unpacking import Unpacked

#: What was opened, made, moved or removed, where somebody watches: a hook can't be taken away again.
_watching: list[list[tuple[str, str]]] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event in ("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir"):
        _watching[-1] += [(event, os.fsdecode(one)) for one in arguments[:2] if isinstance(one, (str, bytes))]


sys.addaudithook(_hook)


def tar(*members: tuple[str, dict[str, object]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive; each member has a name and the fields of its header."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            data = fields.get("data", b"")
            assert isinstance(data, bytes)
            for key, value in fields.items():
                if key != "data":
                    setattr(member, key, value)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


FILE: dict[str, object] = {"data": b"content", "mode": 0o644}
FOLDER: dict[str, object] = {"type": tarfile.DIRTYPE, "mode": 0o755}
LINKS: list[dict[str, object]] = [
    {"type": kind, "linkname": goal}
    for kind, goal in product((tarfile.SYMTYPE, tarfile.LNKTYPE), ("/etc", "..", "../victim", "a", "/", "../../"))
]
NAMES = [
    "../x", "/etc/x", "a/../../x", "..", "a/..", "/", "", "a//b", "../victim/x", "x/../../victim/y", "./../x", "ü",
    "n" * 300, "d/" * 500 + "x", "d/" * 3000 + "x", "new\nline", "\x1b[31m", "a\\..\\x", "~/x", "C:\\x", "con",
    "u\u0308", "-rf",
]  # fmt: skip


def hostile() -> Iterator[bytes]:
    """Yield some hundred archives that somebody means ill with."""
    for name, (fields, form) in product(NAMES, [(FILE, 2), (FOLDER, 2), (FILE, 1)]):
        yield tar((name, fields), form=form)
    for link, inside in product(LINKS, ("l/x", "l", "l/victim/x")):
        yield tar(("l", link), (inside, FILE))
        yield tar((inside, FILE), ("l", link), (inside, FILE))
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"):
        yield tar(("device", {"type": kind, "devmajor": 1, "devminor": 1}), ("device", FILE))
    yield tar(("a", FILE), ("a", FILE))
    yield tar(("a", FILE), ("a/b", FILE))
    yield tar(("a/b", FILE), ("a", FILE))
    yield tar(("a", FOLDER | {"mode": 0}), ("a/b", FILE | {"mode": 0o7777}))
    yield tar(("set", FILE | {"mode": 0o6777, "uid": 0}), ("dir", FOLDER | {"mode": 0o7777}))
    yield tar(*((f"f{number}", FILE) for number in range(300)))
    yield tar(("large", {"data": bytes(200_000)}))
    yield tar(("p", FILE | {"pax_headers": {"path": "../../x"}}))
    yield tar(("p", FILE | {"pax_headers": {"size": "99999999999999999999"}}))
    yield tar(("p", FILE | {"pax_headers": {"GNU.sparse.size": "99999999999", "GNU.sparse.major": "1"}}))
    yield tar(("p", FILE | {"pax_headers": {"comment": "x" * 100_000}}))
    yield tar(("p", FILE | {"mtime": 8**11 - 1}))
    good = tar(("a/b", FILE), ("ü" * 80, FILE), ("l", LINKS[0]), ("c", FOLDER))
    chance = random.Random(98)
    for _ in range(100):
        broken = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(len(broken))] = chance.choice((0, 0x20, 0x2F, 0x2E, 0x35, 0x37, 0xFF))
        yield bytes(broken)
        yield _summed(broken)
    for end in (0, 1, 511, 512, 513, 1024, 1536, 2000):
        yield good[:end]
    header = tar(("p", FILE | {"pax_headers": {"a": "b"}}))[:1024]
    yield header * 2000  # a chain of descriptions
    yield os.urandom(5000)


def _summed(archive: bytearray) -> bytes:
    """Make the sums of all blocks right again, so that what is wrong is looked at."""
    for at in range(0, len(archive) - 511, 512):
        if archive[at + 257 : at + 262] == b"ustar":
            archive[at + 148 : at + 156] = b" " * 8
            archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + 512])
    return bytes(archive)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/kept").write_text("kept")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def unpacked(place: Path, data: bytes, **changes: int) -> Unpacked:
    (place / "stream").write_bytes(data)
    limits = {"size": len(data), "crc": zlib.crc32(data), "max_size": 100_000, "max_entries": 200} | changes
    return unpack(place / "stream", place / "target", **limits)


def test_no_hostile_archive_touches_anything_but_its_target(place: Path) -> None:
    before, count, fine = _tree(place.parent), 0, 0
    for data in hostile():
        (place / "stream").write_bytes(data)
        seen: list[tuple[str, str]] = []
        _watching.append(seen)
        try:
            unpack(place / "stream", place / "target", size=len(data), crc=zlib.crc32(data), max_size=100_000,
                   max_entries=200)  # fmt: skip
            fine += 1
        except MagpieError:
            assert not (place / "target").exists()
        finally:
            _watching.pop()
        assert [one for one in seen if not _is_ours(one[1], place)] == []
        assert set(os.listdir(place)) <= {"stream", "target"}
        for path in (place / "target").rglob("*"):
            info = path.lstat()
            assert stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)
            assert info.st_mode & 0o7000 == 0
            assert info.st_nlink == 1 or stat.S_ISDIR(info.st_mode)
        _remove(place / "target")
        (place / "stream").unlink()
        assert _tree(place.parent) == before
        count += 1
    assert count >= 300
    assert 50 < fine < count - 100


def _is_ours(path: str, place: Path) -> bool:
    """Return whether this is one name, relative to a descriptor of a folder of ours, or in what is being made."""
    if "/" not in path:
        return path not in (".", "..")
    return path in (f"{place}/stream", f"{place}/target") or path.startswith(f"{place}/.target.")


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path)] = (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
    return found


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if folder.exists():
        folder.rmdir()


def test_what_is_well_meant_arrives_whole(place: Path) -> None:
    data = os.urandom(50_000)
    result = unpacked(
        place,
        tar(
            ("out", FOLDER | {"mode": 0o750}), ("out/data", {"data": data, "mode": 0o755, "mtime": 1_234_567_890}),
            ("other/ü" + "x" * 120, FILE), ("out/link", LINKS[3]), ("empty", {"data": b"", "mode": 0}),
        ),
    )  # fmt: skip
    target = place / "target"
    assert (result.files, result.folders, result.size) == (3, 2, 50_007)
    assert result.notes == ("out/link: a symbolic link",)
    assert (target / "out/data").read_bytes() == data
    assert (target / "out/data").stat().st_mode & 0o7777 == 0o755
    assert (target / "out/data").stat().st_mtime == 1_234_567_890
    assert (target / "out").stat().st_mode & 0o7777 == 0o750
    assert (target / "empty").stat().st_mode & 0o7777 == 0o600
    assert target.stat().st_mode & 0o7777 == 0o700


def test_limits_hold(place: Path) -> None:
    data = tar(("a/b", {"data": bytes(1000)}), ("c", {"data": bytes(1000)}))
    for change in (
        {"max_size": 1999},
        {"max_entries": 2},
        {"size": len(data) - 9000},
        {"crc": 1},
        {"size": len(data) + 1},
    ):
        with pytest.raises(TransferRefused):
            unpacked(place, data, **change)
        assert os.listdir(place) == ["stream"]
    assert unpacked(place, data, max_size=2000, max_entries=3).files == 2


@pytest.mark.parametrize("second", ["a", "./a", "a/b"])
def test_a_name_twice_is_refused(place: Path, second: str) -> None:
    with pytest.raises(TransferRefused, match=r"twice|as a file and as a folder"):
        unpacked(place, tar(("a", FILE), (second, FILE)))
    assert os.listdir(place) == ["stream"]


def test_what_comes_behind_the_announced_size_is_not_read(place: Path) -> None:
    data = tar(("a", FILE))
    (place / "stream").write_bytes(data + b"more")
    assert unpack(place / "stream", place / "target", size=len(data), crc=zlib.crc32(data), max_size=100).files == 1


def test_what_is_in_the_way_stays(place: Path) -> None:
    (place / "target").mkdir()
    (place / "target/mine").touch()
    with pytest.raises(TransferRefused, match="in the way"):
        unpacked(place, tar(("a", FILE)))
    assert os.listdir(place / "target") == ["mine"]
    assert sorted(os.listdir(place)) == ["stream", "target"]


def test_a_link_in_the_place_of_the_target_is_in_the_way(place: Path) -> None:
    (place / "target").symlink_to("../victim")
    with pytest.raises(TransferRefused, match="in the way"):
        unpacked(place, tar(("a", FILE)))
    assert os.listdir(place.parent / "victim") == ["kept"]


def test_an_extended_header_takes_no_memory_to_speak_of() -> None:
    header = tar(("p", FILE | {"pax_headers": {"comment": "x" * 10_000_000}}))
    with pytest.raises(TransferRefused, match="a name takes"):
        TarReader(io.BytesIO(header).read).next()


@pytest.mark.parametrize(
    "data", [b"x", b"5 a=b", b"99 a=b\n", b"6 a=b", b"4 =\n\n", b" a=b\n", b"-7 a=b\n", b"6  a=b\n"]
)
def test_records_that_make_no_sense_are_refused(data: bytes) -> None:
    try:
        records = parse_records(data)
    except TransferRefused:
        return
    assert all(key != "" for key in records) or data.startswith(b"4 =")


def test_what_the_agent_writes_can_be_read(place: Path) -> None:
    from magpie_local.guest.agent.outputs import Outputs

    work = place / "guest"
    for name in ("out/a", "out/" + "ü" * 100 + "/b", "out/" + "d/" * 60 + "c", "out/new\nline"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    (work / "out/link").symlink_to("a")
    stream = place / "stream"
    report = Outputs(["out"], str(work), 1 << 20).collect(lambda: os.open(stream, os.O_WRONLY | os.O_CREAT, 0o600))
    result = unpack(stream, place / "target", size=report["bytes"], crc=report["crc"], max_size=1 << 20)
    assert (result.files, result.notes) == (report["files"], ("out/link: a symbolic link",))
    (work / "out/link").unlink()
    assert _contents(place / "target") == _contents(work)


def _contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
