"""Recipes: what an image is made of, read from images/NAME/recipe.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import magpie_local
from magpie_local.domain.spec import check_image_name
from magpie_local.errors import ImageBuildFailed, ImageNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(magpie_local.__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What a recipe knows of one distribution."""

    #: The kernel's package, by architecture.
    kernel: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image is made of."""

    name: str
    folder: Path
    description: str
    min_memory_mb: int
    packages: tuple[str, ...]
    #: Patterns of paths below the root that are left out.
    removed: tuple[str, ...]
    #: Kernel modules that the initramfs loads.
    modules: tuple[str, ...]
    scratch_gb: int
    #: Kernel command line, by architecture.
    cmdline: Mapping[str, str]
    distributions: Mapping[str, Distribution]

    def files(self) -> list[Path]:
        """Return every file of the recipe, in a fixed order."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def recipes_folder() -> Path:
    """Return where recipes lie: in the wheel, or beside the package in the repository."""
    installed = _PACKAGE / "_recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "images"


def load_recipe(name: str, recipes: Path | None = None) -> Recipe:
    """Read a recipe.

    Raises:
        InvalidInput: `name` is no image name.
        ImageNotFound: there is no such recipe.
        ImageBuildFailed: the recipe is not well-formed; names the key.
    """
    check_image_name(name)
    folder = (recipes or recipes_folder()) / name
    path = folder / "recipe.toml"
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ImageNotFound(f"there is no recipe for an image {name!r}: {path} does not exist", hint="") from None
    except tomllib.TOMLDecodeError as error:
        raise ImageBuildFailed(f"{path}: {error}") from None
    try:
        return _recipe(raw, folder)
    except KeyError as error:
        raise ImageBuildFailed(f"{path}: the key {error} is missing") from None
    except TypeError as error:
        raise ImageBuildFailed(f"{path}: {error}") from None


def _recipe(raw: Mapping[str, object], folder: Path) -> Recipe:
    root, initramfs, scratch = _table(raw, "root"), _table(raw, "initramfs"), _table(raw, "scratch")
    distributions = _table(raw, "distribution")
    return Recipe(
        name=_text(raw, "name"),
        folder=folder,
        description=_text(raw, "description"),
        min_memory_mb=_number(raw, "min_memory_mb"),
        packages=_texts(root, "packages"),
        removed=_texts(root, "removed"),
        modules=_texts(initramfs, "modules"),
        scratch_gb=_number(scratch, "size_gb"),
        cmdline=_text_table(raw, "cmdline"),
        distributions={name: _distribution(_table(distributions, name)) for name in distributions},
    )


def _distribution(raw: Mapping[str, object]) -> Distribution:
    return Distribution(kernel=_text_table(raw, "kernel"))


def _table(raw: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = raw[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key} must be a table, not {value!r}")
    return value


def _text_table(raw: Mapping[str, object], key: str) -> Mapping[str, str]:
    table = _table(raw, key)
    return {name: _text(table, name) for name in table}


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str) or not value:
        raise TypeError(f"{key} must be text, not {value!r}")
    return value


def _number(raw: Mapping[str, object], key: str) -> int:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise TypeError(f"{key} must be a positive whole number, not {value!r}")
    return value


def _texts(raw: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = raw[key]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise TypeError(f"{key} must be a list of text, not {value!r}")
    return tuple(value)
