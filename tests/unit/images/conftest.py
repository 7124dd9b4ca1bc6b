from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local.images.manifest import FILES, MANIFEST, Manifest, facts_of, version_of
from magpie_local.images.origin import own_guest_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder of the current version of an image `base`, whose files hold a few bytes each."""
    home = tmp_path / "images" / "base"
    folder = home / "v1"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(f"contents of {name}".encode())
    (folder / MANIFEST).write_bytes(manifest_of(folder).dump())
    (home / "current").symlink_to("v1")
    return folder


def manifest_of(folder: Path) -> Manifest:
    files = {name: facts_of(folder / name) for name in FILES}
    return Manifest(
        name="base", version=version_of(files), recipe="r", guest=own_guest_key("base"),
        distribution="debian 12 bookworm", architecture="x86_64", kernel_release="6.1", cmdline="quiet",
        min_memory_mb=192, built_at="2026-01-01T00:00:00+00:00", build_seconds=40.0, files=files,
        packages={"bash": "5.2"},
    )  # fmt: skip
