"""What an image is made from, as digests: whether a build has anything to do, and whether an image is ours to boot."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.images import kit
from magpie_local.images.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.images.host import Host
    from magpie_local.images.kit import KitFile
    from magpie_local.images.recipe import Recipe

#: Modules whose change changes what is built.
_BUILDER = (
    "aptsources.py", "builder.py", "cpio.py", "initramfs.py", "kernel.py", "kit.py", "origin.py", "rootfs.py",
    "scratch.py",
)  # fmt: skip


def build_key(recipe: Recipe, host: Host) -> str:
    """Return the digest over all that decides what a build makes, but for the versions in the package archive."""
    package = Path(__file__).parent
    builder = {f"builder/{module}": kit.KitFile((package / module).read_bytes()) for module in _BUILDER}
    return _digest(f"{host}\n", _guest_files(recipe) | builder)


def guest_key(recipe: Recipe) -> str:
    """Return the digest over what a guest has of ours: the recipe and the agent.

    The engine talks to the very agent of its own version, so an image with another digest can't be used. How images
    are built, and on which distribution, does not count here: that makes an image another one, and no worse.
    """
    return _digest("", _guest_files(recipe))


@cache
def own_guest_key(name: str) -> str:
    """Return the `guest_key` of what this process builds and talks to; read once, as modules are.

    Raises:
        ImageNotFound: there is no recipe of that name.
        ImageBuildFailed: the recipe is not well-formed.
    """
    return guest_key(load_recipe(name))


def _guest_files(recipe: Recipe) -> dict[str, KitFile]:
    files = {f"recipe/{path.relative_to(recipe.folder)}": kit.read(path) for path in recipe.files()}
    return files | {f"agent/{path}": file for path, file in kit.agent_files().items()}


def _digest(head: str, files: Mapping[str, KitFile]) -> str:
    digest = hashlib.sha256(head.encode())
    for path in sorted(files):
        content = hashlib.sha256(files[path].data).hexdigest()
        digest.update(f"{path} {files[path].executable} {content}\n".encode())
    return digest.hexdigest()
