from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import ImageBroken, ImageNotFound, InvalidInput
from magpie_local.images import manifest
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.images.manifest import FILES, MANIFEST, ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def catalogue(image: Path) -> ImageCatalogue:
    return ImageCatalogue(image.parent.parent)


def flip_a_bit(path: Path) -> None:
    """Change a file's contents, and neither its size nor its time of change."""
    data, status = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_a_whole_image_resolves_to_its_files(catalogue: ImageCatalogue, image: Path) -> None:
    boot = await catalogue.resolve("base")

    assert (boot.kernel, boot.initrd, boot.root, boot.scratch) == tuple(image / name for name in FILES)
    assert (boot.cmdline, boot.architecture, boot.min_memory_mb) == ("quiet", "x86_64", 192)


@pytest.mark.parametrize("name", FILES)
async def test_a_missing_file_is_named_with_the_cure(catalogue: ImageCatalogue, image: Path, name: str) -> None:
    (image / name).unlink()

    with pytest.raises(ImageBroken, match=f"{image / name} is missing") as caught:
        await catalogue.resolve("base")

    assert caught.value.hint == "Rebuild it with `magpie images build base --force`."


async def test_a_truncated_file_is_named_with_both_sizes(catalogue: ImageCatalogue, image: Path) -> None:
    (image / ROOT).write_bytes(b"short")

    with pytest.raises(ImageBroken, match="has 5 bytes, its manifest says 22"):
        await catalogue.resolve("base")


async def test_a_flipped_bit_is_found(catalogue: ImageCatalogue, image: Path) -> None:
    flip_a_bit(image / ROOT)

    with pytest.raises(ImageBroken, match=f"{ROOT} has the SHA-256"):
        await catalogue.resolve("base")


async def test_a_changed_file_is_read_again_though_it_was_right_before(catalogue: ImageCatalogue, image: Path) -> None:
    await catalogue.resolve("base")
    (image / ROOT).write_bytes(b"x" * (image / ROOT).stat().st_size)

    with pytest.raises(ImageBroken, match="SHA-256"):
        await catalogue.resolve("base")


async def test_a_checksum_is_compared_once(
    catalogue: ImageCatalogue, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalogue.resolve("base")
    monkeypatch.setattr(manifest, "facts_of", lambda path: pytest.fail(f"{path} was read again"))

    boot = await ImageCatalogue(image.parent.parent).resolve("base")

    assert boot.root == image / ROOT


@pytest.mark.parametrize("memory", [b"", b"[]", b"{", b'{"v1/root.erofs": 7}'])
async def test_a_damaged_memory_of_checksums_costs_time_only(
    catalogue: ImageCatalogue, image: Path, memory: bytes
) -> None:
    (image.parent / ".verified.json").write_bytes(memory)

    boot = await catalogue.resolve("base")

    assert boot.root == image / ROOT


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"null", b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff", b"[" * 100_000]
)
async def test_a_damaged_manifest_is_named(catalogue: ImageCatalogue, image: Path, damage: bytes) -> None:
    (image / MANIFEST).write_bytes(damage)

    with pytest.raises(ImageBroken, match=f"{MANIFEST} can't be read"):
        await catalogue.resolve("base")


async def test_a_manifest_with_other_checksums_than_its_version_is_refused(
    catalogue: ImageCatalogue, image: Path
) -> None:
    raw = json.loads((image / MANIFEST).read_text())
    raw["files"][ROOT]["sha256"] = "0" * 64
    (image / MANIFEST).write_text(json.dumps(raw))

    with pytest.raises(ImageBroken, match="version does not match"):
        await catalogue.resolve("base")


async def test_an_image_under_another_name_is_refused(catalogue: ImageCatalogue, image: Path) -> None:
    image.parent.rename(image.parent.with_name("other"))

    with pytest.raises(ImageBroken, match="is of an image named 'base'"):
        await catalogue.resolve("other")


@pytest.mark.parametrize("name", ["../base", "base/v1", "", ".", "..", "base\n", "BASE"])
async def test_a_hostile_name_never_reaches_the_file_system(catalogue: ImageCatalogue, name: str) -> None:
    with pytest.raises(InvalidInput):
        await catalogue.resolve(name)
    with pytest.raises(InvalidInput):
        catalogue.remove(name)


async def test_an_image_that_is_not_there_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound, match="there is no image 'base'") as caught:
        await ImageCatalogue(tmp_path).resolve("base")

    assert caught.value.hint == "Build it with `magpie images build base`."


async def test_an_image_that_nobody_can_build_is_not_to_be_built(catalogue: ImageCatalogue) -> None:
    with pytest.raises(ImageNotFound) as caught:
        await catalogue.resolve("other")

    assert "images build" not in caught.value.hint


def test_a_folder_without_a_finished_build_is_no_image(catalogue: ImageCatalogue, image: Path) -> None:
    (image.parent / "current").unlink()

    assert catalogue.list() == []


def test_the_list_shows_a_broken_image_with_its_problem(catalogue: ImageCatalogue, image: Path) -> None:
    (image / MANIFEST).unlink()

    (info,) = catalogue.list()

    assert info.name == "base"
    assert info.problem is not None
    assert "manifest.json is missing" in info.problem


def test_show_tells_contents_as_json(catalogue: ImageCatalogue) -> None:
    shown = json.loads(json.dumps(catalogue.show("base").to_json()))

    assert shown["name"] == "base"
    assert shown["packages"] == {"bash": "5.2"}


def test_a_removed_image_is_gone(catalogue: ImageCatalogue, image: Path) -> None:
    catalogue.remove("base")

    assert not image.parent.exists()
    with pytest.raises(ImageNotFound):
        catalogue.remove("base")


def test_a_folder_of_images_that_does_not_exist_is_an_empty_one(tmp_path: Path) -> None:
    assert ImageCatalogue(tmp_path / "none").list() == []
