"""The science image is the base image and some packages."""

from __future__ import annotations

import dataclasses

from magpie_local.images.recipe import load_recipe


def test_it_differs_from_the_base_image_by_its_packages_alone():
    base, science = load_recipe("base"), load_recipe("science")

    assert {"python3-numpy", "python3-pandas"} == set(science.packages) - set(base.packages)
    assert set(base.packages) < set(science.packages)
    assert set(base.removed) < set(science.removed)
    rest = {"name": "", "description": "", "packages": (), "removed": (), "min_memory_mb": 0, "folder": base.folder}
    assert dataclasses.replace(base, **rest) == dataclasses.replace(science, **rest)  # type: ignore[arg-type]


def test_its_files_are_those_of_the_base_image():
    base, science = load_recipe("base"), load_recipe("science")
    own = {path.relative_to(science.folder): path for path in science.files()}

    assert set(own) == {path.relative_to(base.folder) for path in base.files()}
    for name, path in own.items():
        is_link = path.is_symlink() and path.resolve() == (base.folder / name).resolve()
        assert is_link or name.name == "recipe.toml"
