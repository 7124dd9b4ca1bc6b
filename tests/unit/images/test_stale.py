"""An image of another version of ours is refused before a VM boots it: its agent would not understand us."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config
from magpie_local.errors import ImageStale
from magpie_local.images import kit, origin
from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.images.host import Host
from magpie_local.images.manifest import MANIFEST
from magpie_local.images.needs import image_need
from magpie_local.images.recipe import load_recipe, recipes_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def stale(image: Path) -> ImageCatalogue:
    """The images of a folder whose `base` says that another version built it."""
    rewrite(image, lambda manifest: manifest.update(guest="0" * 64))
    return ImageCatalogue(image.parent.parent)


def rewrite(image: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((image / MANIFEST).read_text())
    change(manifest)
    (image / MANIFEST).write_text(json.dumps(manifest))


async def test_an_image_of_another_version_says_so_with_the_cure(stale: ImageCatalogue) -> None:
    with pytest.raises(ImageStale, match=r"'base'.*is of another version of magpie_local") as caught:
        await stale.resolve("base")

    assert caught.value.hint == "Build it anew with `magpie images build base`."


async def test_an_image_from_before_this_was_noted_counts_as_another_versions(image: Path) -> None:
    rewrite(image, lambda manifest: manifest.pop("guest"))

    with pytest.raises(ImageStale):
        await ImageCatalogue(image.parent.parent).resolve("base")


async def test_an_image_without_a_recipe_is_to_be_removed(image: Path) -> None:
    rewrite(image, lambda manifest: manifest.update(name="former"))
    image.parent.rename(image.parent.with_name("former"))

    with pytest.raises(ImageStale) as caught:
        await ImageCatalogue(image.parent.parent).resolve("former")

    assert "magpie images rm former" in caught.value.hint


async def test_doctor_and_the_list_tell(stale: ImageCatalogue) -> None:
    need = await image_need(stale)
    (listed,) = stale.list()

    assert not need.ok
    assert "another version" in need.detail
    assert "magpie images build base" in (need.cure or "")
    assert listed.problem == need.detail
    assert listed.manifest is not None


def test_a_job_is_refused_before_anything_is_stored_or_started(stale: ImageCatalogue, image: Path) -> None:
    del stale
    settings = config.load(
        home=image.parents[2] / "home", images=image.parents[1], hypervisor="libvirt", keeper=False, pool=0, templates=0
    )
    with Magpie(settings=settings) as client:
        with pytest.raises(ImageStale):
            client.jobs.create("job", "true")
        assert client.jobs.list() == []


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's agent that a test may change."""
    copy = tmp_path / "package"
    for part in ("domain/frames.py", "guest/agent"):
        source, target = kit._PACKAGE / part, copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    monkeypatch.setattr(kit.agent_files, "__defaults__", (copy,))
    return copy


def test_a_change_of_the_agent_or_of_what_it_shares_with_the_host_makes_images_stale(package: Path) -> None:
    keys = {origin.guest_key(load_recipe("base"))}
    for part in ("domain/frames.py", "guest/agent/main.py"):
        (package / part).write_text((package / part).read_text() + "# another version\n")
        keys.add(origin.guest_key(load_recipe("base")))

    assert len(keys) == 3


def test_a_change_of_the_recipe_makes_images_stale(tmp_path: Path) -> None:
    shutil.copytree(recipes_folder(), tmp_path / "recipes")
    before = origin.guest_key(load_recipe("base", tmp_path / "recipes"))
    (tmp_path / "recipes" / "base" / "rootfs" / "etc" / "motd").write_text("hello")

    assert origin.guest_key(load_recipe("base", tmp_path / "recipes")) != before


def test_whatever_makes_an_image_stale_has_it_built_anew(package: Path) -> None:
    """The cure must work without --force: the key that saves a build covers the one that refuses an image."""
    host = Host(distribution="debian", release="12", codename="bookworm", architecture="x86_64")
    before = origin.build_key(load_recipe("base"), host)
    (package / "guest/agent/main.py").write_text("# another version\n")

    assert origin.build_key(load_recipe("base"), host) != before
