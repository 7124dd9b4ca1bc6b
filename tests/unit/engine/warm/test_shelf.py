"""Templates on disk: whole or not there, and damage is found before a fork meets it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.shape import Shape
from magpie_local.domain.template import MANIFEST, PARTS, RAM, Template
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.errors import SnapshotUnusable

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
SHAPE = Shape("base", 1, 512)


def begin(shelf: TemplateShelf, key: str, size: int = 8 * MIB) -> Template:
    """Write the parts of a template, memory with a hole in it, but do not finish it."""
    folder = shelf.begin(key)
    for part in PARTS:
        (folder / part).write_bytes(f"{part} of {key}".encode())
    with (folder / RAM).open("r+b") as ram:
        ram.truncate(size)
        ram.seek(size - MIB)
        ram.write(os.urandom(MIB))
    return Template(
        key=key, shape=SHAPE, image_version="1", accelerator="tcg", made_with="a test", created_at=1.0, folder=folder
    )  # fmt: skip


def make(shelf: TemplateShelf, key: str, *, used_at: float | None = None) -> Template:
    template = begin(shelf, key)
    shelf.finish(template)
    if used_at is not None:
        os.utime(template.folder / "used", (used_at, used_at))
    return template


@pytest.fixture
def shelf(tmp_path: Path) -> TemplateShelf:
    return TemplateShelf(tmp_path / "templates", "boot-1")


def test_a_finished_template_is_found_as_it_was_made(shelf: TemplateShelf) -> None:
    template = make(shelf, "k1")
    assert shelf.find("k1") == template
    assert shelf.find("k2") is None


def test_a_template_exists_from_its_manifest_on(shelf: TemplateShelf) -> None:
    template = begin(shelf, "k1")
    assert shelf.find("k1") is None
    assert shelf.contents() == []
    shelf.finish(template)
    assert [one.key for one in shelf.contents()] == ["k1"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_found_and_named(shelf: TemplateShelf, part: str, damage: str) -> None:
    path = make(shelf, "k1").folder / part
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()
    with pytest.raises(SnapshotUnusable, match=part):
        shelf.find("k1")


def test_a_flip_that_leaves_no_trace_in_the_times_is_found_after_the_next_boot(tmp_path: Path) -> None:
    before = TemplateShelf(tmp_path, "boot-1")
    path = make(before, "k1").folder / RAM
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SnapshotUnusable, match=RAM):
        TemplateShelf(tmp_path, "boot-2").find("k1")


def test_verify_reads_everything_whatever_is_remembered(shelf: TemplateShelf) -> None:
    make(shelf, "k1")
    shelf.verify("k1")
    with pytest.raises(SnapshotUnusable, match="no template k2"):
        shelf.verify("k2")


def test_a_flip_in_a_hole_is_found(shelf: TemplateShelf) -> None:
    path = make(shelf, "k1").folder / RAM
    with path.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"\x01")
    with pytest.raises(SnapshotUnusable, match=RAM):
        shelf.find("k1")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99}', "\x00\xff"])
def test_a_manifest_that_is_none_is_damage_and_the_list_goes_on(shelf: TemplateShelf, text: str) -> None:
    folder = make(shelf, "k1").folder
    make(shelf, "k2")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(SnapshotUnusable, match=MANIFEST):
        shelf.find("k1")
    listed = {one.key: one for one in shelf.contents()}
    assert listed["k1"].template is None
    assert MANIFEST in str(listed["k1"].problem)
    assert listed["k2"].problem is None


def test_the_least_recently_used_go_first_and_a_kept_one_stays(shelf: TemplateShelf) -> None:
    for key, used_at in (("old", 1.0), ("new", 3.0), ("middle", 2.0)):
        make(shelf, key, used_at=used_at)
    size = shelf.contents()[0].size
    assert shelf.evict(budget=2 * size) == ["old"]
    assert shelf.evict(budget=0, keep={"middle"}) == ["new"]
    assert [one.key for one in shelf.contents()] == ["middle"]


def test_use_is_noted(shelf: TemplateShelf) -> None:
    make(shelf, "a", used_at=1.0)
    make(shelf, "b", used_at=2.0)
    shelf.touch("a")
    assert [one.key for one in shelf.contents()] == ["a", "b"]


def test_the_sweep_takes_what_was_left_half_done_and_nothing_else(shelf: TemplateShelf, tmp_path: Path) -> None:
    make(shelf, "whole")
    begin(shelf, "half")
    wishes = tmp_path / "templates" / ".wanted"
    wishes.mkdir()
    shelf.sweep()
    assert sorted(os.listdir(tmp_path / "templates")) == [".wanted", "whole"]


def test_removing_tells_whether_there_was_one(shelf: TemplateShelf) -> None:
    make(shelf, "k1")
    assert shelf.remove("k1") is True
    assert shelf.remove("k1") is False
    assert shelf.find("k1") is None


def test_everything_is_for_the_owner_only(shelf: TemplateShelf) -> None:
    folder = make(shelf, "k1").folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
