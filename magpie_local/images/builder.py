"""Build an image from its recipe: the steps in order, and the publishing of the result."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from magpie_local.errors import ImageBroken, ImageBuildFailed, ImageNotFound
from magpie_local.images import initramfs, kernel, manifest, rootfs, scratch
from magpie_local.images.buildlock import build_lock
from magpie_local.images.catalogue import CURRENT, ImageCatalogue, ImageInfo
from magpie_local.images.host import Host, this_host
from magpie_local.images.manifest import FILES, INITRD, KERNEL, MANIFEST, SCRATCH, Manifest
from magpie_local.images.needs import needs
from magpie_local.images.origin import build_key, guest_key
from magpie_local.images.recipe import Recipe, load_recipe
from magpie_local.images.workspace import BuildFolders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from magpie_local.domain.need import Need

_KEPT_VERSIONS = 2


async def build(
    name: str, folder: Path, *, force: bool = False, progress: Callable[[str], None] = lambda line: None
) -> ImageInfo:
    """Build an image into `folder`, or return the one that is there when nothing it depends on has changed.

    Args:
        force: build in any case, to get newer packages or to mend damaged files.
        progress: gets a line at the begin and the end of each step.

    Raises:
        InvalidInput, ImageNotFound: no such recipe.
        ImageBuildFailed: the step, the last lines of the tool's output, and the cure.
    """
    recipe, host = load_recipe(name), this_host()
    key = build_key(recipe, host)
    # Before anything is written: the folder may belong to another user, who has built what is needed here.
    built = None if force else await _up_to_date(name, folder, key)
    if built is None:
        _require(needs())
        try:
            return await _build_locked(recipe, host, folder, key, force=force, progress=progress)
        except OSError as error:
            where = error.filename or folder
            raise ImageBuildFailed(
                f"the image {name!r} can't be built: {where}: {error.strerror}",
                hint="Free some space, or choose another folder with MAGPIE_IMAGES.",
            ) from error
    progress(f"{name}: up to date, version {built.folder.name}")
    return built


async def _build_locked(
    recipe: Recipe, host: Host, folder: Path, key: str, *, force: bool, progress: Callable[[str], None]
) -> ImageInfo:
    name = recipe.name
    image = folder / name
    image.mkdir(mode=0o755, parents=True, exist_ok=True)
    async with build_lock(image / ".lock", lambda: progress(f"{name}: waiting for another build")) as lock:
        if not force and (built := await _up_to_date(name, folder, key)):
            progress(f"{name}: another build has just made version {built.folder.name}")
            return built
        return await _Build(recipe, host, image, key, lock, progress).run()


def _require(found: Sequence[Need]) -> None:
    """Raise ImageBuildFailed with all that is missing and every cure, before the first step."""
    missing = [need for need in found if not need.ok]
    if missing:
        what = ", ".join(f"{need.name} ({need.detail})" for need in missing)
        cures = dict.fromkeys(need.cure for need in missing if need.cure)
        raise ImageBuildFailed(f"an image can't be built on this machine: {what}", hint="\n".join(cures))


async def _up_to_date(name: str, folder: Path, key: str) -> ImageInfo | None:
    catalogue = ImageCatalogue(folder)
    try:
        built = catalogue.show(name)
        if built.manifest is None or built.manifest.recipe != key:
            return None
        await catalogue.resolve(name)
    except (ImageNotFound, ImageBroken):
        return None
    return built


@dataclass(frozen=True, slots=True)
class _Build:
    recipe: Recipe
    host: Host
    #: IMAGES/NAME
    image: Path
    key: str
    lock: int
    progress: Callable[[str], None]

    async def run(self) -> ImageInfo:
        begun = time.monotonic()
        folders = BuildFolders(self.image)
        work = await folders.make()
        try:
            out = folders.out
            with self._step(rootfs.STEP):
                await rootfs.RootBuild(recipe=self.recipe, host=self.host, out=out, work=work, lock=self.lock).run()
            release = (out / "release").read_text().strip()
            with self._step(kernel.STEP):
                await kernel.unpack(out / KERNEL, out)
            with self._step(initramfs.STEP):
                data = initramfs.make(
                    self.recipe, release=release, modules=out / "modules.tar", busybox=out / "busybox"
                )
                (out / INITRD).write_bytes(data)
            with self._step(scratch.STEP):
                await scratch.make(self.recipe.scratch_gb, out / SCRATCH, work)
            with self._step("checksums"):
                made = self._manifest(out, release, time.monotonic() - begun)
                version = self._publish(out, made)
        finally:
            await folders.remove()
        self._prune()
        self.progress(f"{self.recipe.name}: built version {made.version} in {time.monotonic() - begun:.0f} s")
        return ImageInfo(self.recipe.name, version, made)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.progress(f"{self.recipe.name}: {name} …")
        begun = time.monotonic()
        yield
        self.progress(f"{self.recipe.name}: {name}: {time.monotonic() - begun:.1f} s")

    def _manifest(self, out: Path, release: str, seconds: float) -> Manifest:
        files = {name: manifest.facts_of(out / name) for name in FILES}
        lines = (out / "packages").read_text().splitlines()
        host = self.host
        return Manifest(
            name=self.recipe.name,
            version=manifest.version_of(files),
            recipe=self.key,
            guest=guest_key(self.recipe),
            distribution=f"{host.distribution} {host.release} {host.codename}",
            architecture=host.architecture,
            kernel_release=release,
            cmdline=self.recipe.cmdline[host.architecture],
            min_memory_mb=self.recipe.min_memory_mb,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            build_seconds=round(seconds, 1),
            files=files,
            packages=dict(line.split(" ", 1) for line in lines),
        )

    def _publish(self, out: Path, made: Manifest) -> Path:
        """Move the files into a folder of their version, whole and on disk, and point `current` at it."""
        version = self.image / made.version
        fresh = out / "publish"
        fresh.mkdir(mode=0o755)
        (out / MANIFEST).write_bytes(made.dump())
        for name in (*FILES, MANIFEST):
            (out / name).chmod(0o644)
            _sync(out / name)
            (out / name).rename(fresh / name)
        fresh.chmod(0o755)  # whatever the umask: QEMU may run as another user
        _sync(fresh)
        if version.exists():
            # The same contents again: the folder there has lost a file, or a byte of one (else it were up to date).
            shutil.rmtree(version)
        fresh.rename(version)
        pointer = out / CURRENT
        pointer.symlink_to(made.version)
        pointer.rename(self.image / CURRENT)
        _sync(self.image)
        return version

    def _prune(self) -> None:
        """Remove old versions; the one before stays for jobs that have just been told to boot it."""
        versions = [path for path in self.image.iterdir() if path.is_dir() and not path.is_symlink()]
        versions.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in versions[_KEPT_VERSIONS:]:
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
