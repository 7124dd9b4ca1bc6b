"""The catalogue of built images.

IMAGES/NAME/current -> VERSION      replaced by a rename: there is always a whole image or none
IMAGES/NAME/VERSION/                vmlinuz, initrd, root.erofs, scratch.qcow2, manifest.json
IMAGES/NAME/.verified.json          files whose checksum has been compared (verified.py)
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.spec import check_image_name
from magpie_local.domain.vm import BootImage
from magpie_local.errors import ImageBroken, ImageNotFound, ImageStale
from magpie_local.images import manifest as manifests
from magpie_local.images.manifest import INITRD, KERNEL, MANIFEST, ROOT, SCRATCH, FileFacts, Manifest, ManifestError
from magpie_local.images.origin import own_guest_key
from magpie_local.images.recipe import recipes_folder
from magpie_local.images.verified import Verified

if TYPE_CHECKING:
    from pathlib import Path

CURRENT = "current"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A built image; `problem` says why it can't be used, where that is known without a look at its files."""

    name: str
    folder: Path
    manifest: Manifest | None
    problem: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "problem": self.problem,
            **(self.manifest.to_json() if self.manifest else {}),
        }


class ImageCatalogue:
    """Finds, lists and removes the images of one folder; implements the port `Images`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def resolve(self, name: str) -> BootImage:
        """Return a built image, every file of which has the size and the checksum of the manifest.

        Checksums are compared once for each (path, size, time of change); later calls only stat.

        Raises:
            InvalidInput: `name` is no image name.
            ImageNotFound: not built yet.
            ImageStale: built by another version of ours; no VM of it would ever be ready.
            ImageBroken: names the file, and the command that mends it.
        """
        return await asyncio.to_thread(self._resolve, name)

    def list(self) -> list[ImageInfo]:
        """Return all images by name; broken ones too, with their problem."""
        names = sorted(path.parent.name for path in self._folder.glob(f"[!.]*/{CURRENT}"))
        infos = []
        for name in names:
            try:
                infos.append(self.show(name))
            except ImageBroken as error:
                infos.append(ImageInfo(name, self._folder / name, None, error.message))
        return infos

    def show(self, name: str) -> ImageInfo:
        """Return one image; its files are not looked at.

        Raises:
            InvalidInput, ImageNotFound.
            ImageBroken: its manifest can't be read.
        """
        folder = self._current(name)
        try:
            manifest = manifests.parse((folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise _broken(name, folder / MANIFEST, "is missing") from None
        except (OSError, ManifestError) as error:
            raise _broken(name, folder / MANIFEST, f"can't be read: {error}") from None
        if manifest.name != name:
            raise _broken(name, folder / MANIFEST, f"is of an image named {manifest.name!r}")
        stale = _staleness(manifest)
        return ImageInfo(name, folder, manifest, None if stale is None else stale.message)

    def remove(self, name: str) -> None:
        """Remove an image with all its versions; running VMs keep the files they have open.

        Raises:
            InvalidInput, ImageNotFound.
        """
        self._current(name)
        folder = self._folder / name
        # Without `current` there is no image: a remove that is broken off leaves nothing that looks built.
        (folder / CURRENT).unlink()
        shutil.rmtree(folder)

    def _current(self, name: str) -> Path:
        check_image_name(name)
        pointer = self._folder / name / CURRENT
        try:
            return pointer.parent / os.readlink(pointer)
        except OSError:
            hint = f"Build it with `magpie images build {name}`."
            if not (recipes_folder() / name).is_dir():
                hint = "There is no recipe for it either; `magpie images list` shows what is built."
            raise ImageNotFound(f"there is no image {name!r} in {self._folder}", hint=hint) from None

    def _resolve(self, name: str) -> BootImage:
        info = self.show(name)
        manifest, folder = info.manifest, info.folder
        assert manifest is not None
        if stale := _staleness(manifest):
            raise stale
        with Verified(folder.parent / ".verified.json") as verified:
            for file, facts in manifest.files.items():
                _check(name, folder / file, facts, verified)
        return BootImage(
            name=name,
            version=manifest.version,
            kernel=folder / KERNEL,
            initrd=folder / INITRD,
            root=folder / ROOT,
            scratch=folder / SCRATCH,
            cmdline=manifest.cmdline,
            architecture=manifest.architecture,
            min_memory_mb=manifest.min_memory_mb,
        )


def _staleness(manifest: Manifest) -> ImageStale | None:
    """Return what is wrong with an image whose agent is not the one that this process talks to."""
    name = manifest.name
    try:
        if manifest.guest == own_guest_key(name):
            return None
        hint = f"Build it anew with `magpie images build {name}`."
    except ImageNotFound:
        hint = f"This version has no recipe for it; remove it with `magpie images rm {name}`."
    return ImageStale(
        f"the image {name!r}, built {manifest.built_at}, is of another version of magpie_local than this one", hint=hint
    )


def _check(name: str, path: Path, facts: FileFacts, verified: Verified) -> None:
    try:
        status = path.stat()
        if status.st_size != facts.size:
            raise _broken(name, path, f"has {status.st_size} bytes, its manifest says {facts.size}")
        if verified.knows(path, status, facts):
            return
        found = manifests.facts_of(path)
    except FileNotFoundError:
        raise _broken(name, path, "is missing") from None
    except OSError as error:
        raise _broken(name, path, f"can't be read: {error.strerror}") from None
    if found != facts:
        raise _broken(name, path, f"has the SHA-256 {found.sha256}, its manifest says {facts.sha256}")
    verified.add(path, status, facts)


def _broken(name: str, path: Path, what: str) -> ImageBroken:
    return ImageBroken(
        f"the image {name!r} is damaged: {path} {what}", hint=f"Rebuild it with `magpie images build {name} --force`."
    )
