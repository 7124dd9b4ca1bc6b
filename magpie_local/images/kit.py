"""The kit: everything of ours that goes into a root, as one tar file.

It holds the recipe's overlay (rootfs/), the agent with the one module it shares with the host, and under .magpie/
what only the build needs.
"""

from __future__ import annotations

import io
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import magpie_local
from magpie_local.errors import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.images.recipe import Recipe

AGENT_HOME = "usr/lib/magpie"

_PACKAGE = Path(magpie_local.__file__).parent


@dataclass(frozen=True, slots=True)
class KitFile:
    """A file of the kit, owned by root."""

    data: bytes
    executable: bool = False


def read(path: Path) -> KitFile:
    """Read a file; of its mode only the owner's execute bit counts (as in git)."""
    return KitFile(path.read_bytes(), executable=bool(path.stat().st_mode & stat.S_IXUSR))


def agent_files(package: Path = _PACKAGE) -> dict[str, KitFile]:
    """Return the agent's modules by their path in the root.

    The packages above them are empty there: the agent imports nothing else of ours.
    """
    modules = [package / "domain" / "frames.py", *sorted((package / "guest" / "agent").glob("*.py"))]
    if not (package / "guest" / "agent" / "main.py").is_file():
        raise ImageBuildFailed(f"the agent is missing: {package}/guest/agent/main.py", hint="Reinstall magpie_local.")
    home = f"{AGENT_HOME}/magpie_local"
    packages = ("__init__.py", "domain/__init__.py", "guest/__init__.py", "guest/agent/__init__.py")
    files = {f"{home}/{name}": KitFile(b"") for name in packages}
    files |= {f"{home}/{path.relative_to(package)}": KitFile(path.read_bytes()) for path in modules}
    return files


def overlay_files(recipe: Recipe) -> dict[str, KitFile]:
    """Return the recipe's own files by their path in the root."""
    overlay = recipe.folder / "rootfs"
    return {str(path.relative_to(overlay)): read(path) for path in recipe.files() if path.is_relative_to(overlay)}


def build_files(recipe: Recipe, sources: str) -> dict[str, KitFile]:
    """Return what the build needs inside the root; the image does not hold it."""
    return {
        ".magpie/finish": KitFile((recipe.folder / "finish").read_bytes(), executable=True),
        ".magpie/removed": KitFile("".join(f"{pattern}\n" for pattern in recipe.removed).encode()),
        ".magpie/sources": KitFile(sources.encode()),
    }


def pack(files: Mapping[str, KitFile]) -> bytes:
    """Return a tar archive of `files`; folders are made by whoever unpacks it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(files):
            member = tarfile.TarInfo(path)
            member.size = len(files[path].data)
            member.mode = 0o755 if files[path].executable else 0o644
            tar.addfile(member, io.BytesIO(files[path].data))
    return buffer.getvalue()
