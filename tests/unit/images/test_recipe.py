from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import ImageBuildFailed, ImageNotFound, InvalidInput
from magpie_local.images.host import Host
from magpie_local.images.origin import build_key
from magpie_local.images.recipe import load_recipe, recipes_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = Host(distribution="debian", release="12", codename="bookworm", architecture="x86_64")


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A copy of the recipes that a test may change."""
    shutil.copytree(recipes_folder(), tmp_path / "recipes")
    return tmp_path / "recipes"


def test_the_base_recipe_names_what_jobs_call() -> None:
    recipe = load_recipe("base")

    assert {"python3", "python3-pip", "python3-venv", "git", "curl", "openssh-server"} <= set(recipe.packages)
    assert set(recipe.cmdline) == {"x86_64", "aarch64"}


def test_an_unchanged_recipe_has_the_same_key_wherever_it_lies(recipes: Path) -> None:
    assert build_key(load_recipe("base", recipes), HOST) == build_key(load_recipe("base"), HOST)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "recipe.toml").write_text((folder / "recipe.toml").read_text() + "\n"),
        lambda folder: (folder / "rootfs" / "etc" / "motd").write_text("hello"),
        lambda folder: (folder / "rootfs" / "etc" / "pip.conf").chmod(0o755),
        lambda folder: (folder / "finish").rename(folder / "end"),
    ],
    ids=["a changed byte", "a new file", "an execute bit", "a new name"],
)
def test_every_change_of_a_recipe_changes_the_key(recipes: Path, change: Callable[[Path], object]) -> None:
    before = build_key(load_recipe("base", recipes), HOST)

    change(recipes / "base")

    assert build_key(load_recipe("base", recipes), HOST) != before


@pytest.mark.parametrize("field", ["distribution", "release", "codename", "architecture"])
def test_another_host_has_another_key(field: str) -> None:
    other = dataclasses.replace(HOST, **{field: "other"})

    assert build_key(load_recipe("base"), other) != build_key(load_recipe("base"), HOST)


def test_an_unknown_recipe_is_an_error_that_says_where_it_was_sought() -> None:
    with pytest.raises(ImageNotFound, match=r"nothing/recipe\.toml does not exist"):
        load_recipe("nothing")


@pytest.mark.parametrize("name", ["../base", "", "Base", "a/b", ".hidden", "a\n", "x" * 64])
def test_a_name_that_is_no_folders_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="image"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("min_memory_mb = ", "memory = ", "min_memory_mb"),
        ("size_gb = 20", "size_gb = -1", "size_gb must be a positive whole number, not -1"),
        ('name = "base"', "name = 7", "name must be text, not 7"),
        ("modules = [", "modules = 3 #", "modules must be a list"),
        ("[root]", "[root", r"recipe\.toml"),
    ],
)
def test_a_malformed_recipe_is_an_error_that_names_the_key(recipes: Path, old: str, new: str, message: str) -> None:
    path = recipes / "base" / "recipe.toml"
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(ImageBuildFailed, match=message):
        load_recipe("base", recipes)
