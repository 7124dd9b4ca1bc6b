"""The byte search finds what is planted, in each place and each encoding, and nothing where nothing is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.frames import STDERR, STDOUT, log_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Plant = Callable[[Path, dict[str, bytes]], None]

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def in_a_file(state: Path, written: dict[str, bytes]) -> None:
    for number, form in enumerate(written.values()):
        (state / "jobs" / str(number)).mkdir(parents=True)
        (state / "jobs" / str(number) / "console.log").write_bytes(b"before" + form + b"after")


def in_lines(state: Path, written: dict[str, bytes]) -> None:
    text = b" ".join(written.values())
    (state / "keeper.log").write_bytes(b"\r\n".join(text[at : at + 5] for at in range(0, len(text), 5)))


def across_pieces(state: Path, written: dict[str, bytes]) -> None:
    with (state / "memory").open("wb") as file:
        for number, form in enumerate(written.values(), 1):
            file.seek(number * (4 << 20) - 7)
            file.write(form)
        file.seek(0)
        file.write(bytes(file.seek(0, os.SEEK_END)))  # no hole: pieces end where they are full
        for number, form in enumerate(written.values(), 1):
            file.seek(number * (4 << 20) - 7)
            file.write(form)


def behind_a_hole(state: Path, written: dict[str, bytes]) -> None:
    (state / "templates").mkdir()
    with (state / "templates" / "ram").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(700 << 20)
        file.write(b"\0".join(written.values()))


def in_a_name(state: Path, written: dict[str, bytes]) -> None:
    for form in written.values():
        name = os.fsdecode(form)
        (state / name).mkdir(parents=True, exist_ok=True)


def in_a_link(state: Path, written: dict[str, bytes]) -> None:
    for number, form in enumerate(written.values()):
        os.symlink(b"/nowhere/" + form, state / str(number))


def in_a_row(state: Path, written: dict[str, bytes]) -> None:
    """Of several pages: in the file, other bytes stand between."""
    with closing(sqlite3.connect(state / "magpie.db")) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("CREATE TABLE things (value)")
        for form in written.values():
            for before in range(0, 500, 25):
                database.execute("INSERT INTO things VALUES (?)", (b"x" * (500 + before) + form + b"x" * 500,))
        database.commit()


def in_a_free_page(state: Path, written: dict[str, bytes]) -> None:
    with closing(sqlite3.connect(state / "magpie.db")) as database:
        database.execute("PRAGMA secure_delete = off")
        database.execute("CREATE TABLE things (value)")
        database.executemany("INSERT INTO things VALUES (?)", [(form,) for form in written.values()])
        database.commit()
        database.execute("DROP TABLE things")
        database.commit()


def in_the_log(state: Path, written: dict[str, bytes]) -> None:
    """Cut in two by the header of the next frame."""
    (state / "1").mkdir()
    frames = b""
    for form in written.values():
        for kind, other, half in ((STDOUT, STDERR, form[:5]), (STDOUT, STDERR, form[5:])):
            frames += log_frame(kind, 1, half) + log_frame(other, 1, b"between")
    (state / "1" / "log").write_bytes(frames)


def raw_in_a_disk(state: Path, written: dict[str, bytes]) -> None:
    _disk(state, written)


def compressed_in_a_disk(state: Path, written: dict[str, bytes]) -> None:
    _disk(state, written, "-c")


def below_an_overlay(state: Path, written: dict[str, bytes]) -> None:
    """The secret is in a disk elsewhere, compressed; the state directory has only what builds on it."""
    base = state.parent / "base"
    base.mkdir()
    _disk(base, written, "-c")
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base / "disk.qcow2")]
    subprocess.run([*overlay, str(state / "scratch.qcow2")], check=True)


def _disk(folder: Path, written: dict[str, bytes], *options: str) -> None:
    raw = folder.parent / "raw"
    raw.write_bytes(bytes(65_500) + bytes(40_000).join(written.values()) + bytes(65_500))
    target = str(folder / "disk.qcow2")
    subprocess.run(["qemu-img", "convert", *options, "-f", "raw", "-O", "qcow2", str(raw), target], check=True)
    raw.unlink()


@pytest.mark.parametrize(
    "plant",
    [
        in_a_file, in_lines, across_pieces, behind_a_hole, in_a_name, in_a_link, in_a_row, in_a_free_page, in_the_log,
        *(pytest.param(one, marks=needs_qemu_img) for one in (raw_in_a_disk, compressed_in_a_disk, below_an_overlay)),
    ],
)  # fmt: skip
def test_each_encoding_is_found_in_each_place(state: Path, search, written: dict[str, bytes], plant: Plant) -> None:
    search.state(state)
    assert search.hits == set()

    plant(state, written)
    search.state(state)

    assert {hit.form for hit in search.hits} == set(written)


def test_what_another_process_has_not_yet_moved_out_of_the_wal_is_found(state: Path, search, canary: str) -> None:
    with closing(sqlite3.connect(state / "magpie.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE things (value)")
        database.execute("INSERT INTO things VALUES (?)", (canary,))
        database.commit()
        search.state(state)

    assert {hit.place for hit in search.hits} == {"magpie.db-wal", "magpie.db table things"}


@pytest.mark.parametrize("place", ["cmdline", "environ"])
def test_each_encoding_is_found_in_a_process(search, written: dict[str, bytes], place: str) -> None:
    words = [os.fsdecode(form) for form in written.values()]
    given = words if place == "cmdline" else []
    environment = {f"X{number}": word for number, word in enumerate(words if place == "environ" else [])}
    wait = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", *given]
    with subprocess.Popen(wait, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        search.processes()
        process.communicate()

    assert search.hits == {(f"{place} of {process.pid}", form) for form in written}


def test_each_encoding_is_found_in_what_is_shown(search, canary: str, written: dict[str, bytes]) -> None:
    for form in written.values():
        search.text("story", form.decode())
    assert {hit.form for hit in search.hits} == set(written)

    search.hits.clear()
    search.text("story", [{"detail": canary}])
    assert {hit.form for hit in search.hits} >= {"json utf-8", "repr"}

    search.hits.clear()
    search.text("story", [canary.encode()])
    assert {hit.form for hit in search.hits} >= {"repr of bytes"}


def test_another_secret_is_not_found(state: Path, search) -> None:
    (state / "file").write_text("cAnary/of somebody else")
    search.state(state)
    search.processes()

    assert search.hits == set()
    assert search.looked["file"] == 1
    assert search.looked["cmdline"] > 1
