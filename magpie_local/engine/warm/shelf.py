"""Templates on disk.

A folder is a template from the moment its manifest is there: that is written last, in one step, when all else is
synced. What a template consists of is compared with the manifest's checksums once in a host's boot, and again whenever
a file's size or times have changed; in between, a look at those is enough.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.shape import parse_shape
from magpie_local.domain.template import MANIFEST, PARTS, Template
from magpie_local.engine.files import private_folder, sync
from magpie_local.engine.warm.digest import sparse_sha256
from magpie_local.errors import InvalidInput, SnapshotUnusable

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from magpie_local.domain.shape import Shape

_CHECKED, _USED = "checked.json", "used"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """What lies on the shelf: a template, or what is left of one."""

    key: str
    #: None where the manifest can't be read.
    template: Template | None
    #: Bytes that its files take on disk.
    size: int
    #: Wall clock, seconds since the epoch.
    used_at: float
    problem: str | None = None


class TemplateShelf:
    """The templates of one state directory; any process may read and remove, only the leader adds.

    Args:
        folder: where they lie; made when the first one is begun.
        boot_id: the host's present boot: after the next one everything is read again.
    """

    def __init__(self, folder: Path, boot_id: str) -> None:
        self._folder = folder
        self._boot_id = boot_id

    def find(self, key: str) -> Template | None:
        """Return a whole template, or None where there is none of this key.

        Raises:
            SnapshotUnusable: it is there and damaged; names the file.
        """
        folder = self._folder / key
        try:
            template, sums = _read_manifest(folder)
        except FileNotFoundError:
            return None
        self._check(folder, sums)
        return template

    def begin(self, key: str) -> Path:
        """Return an empty folder in which the template `key` can be made; what was there is gone."""
        private_folder(self._folder)
        folder = self._folder / key
        self._discard(folder)
        folder.mkdir(mode=0o700)
        return folder

    def finish(self, template: Template) -> None:
        """Make the parts in `template.folder` a template: sum them up, sync them, write the manifest."""
        sums = {part: sparse_sha256(template.folder / part) for part in PARTS}
        for part in PARTS:
            sync(template.folder / part)
        self._remember(template.folder, sums)
        self.touch(template.key)
        manifest = {
            "format": _FORMAT, "key": template.key, "shape": str(template.shape), "image": template.image_version,
            "accelerator": template.accelerator, "made_with": template.made_with, "created_at": template.created_at,
            "sha256": sums,
        }  # fmt: skip
        fresh = template.folder / f".{MANIFEST}"
        fresh.write_text(json.dumps(manifest, indent=2))
        sync(fresh)
        fresh.replace(template.folder / MANIFEST)
        sync(template.folder)

    def verify(self, key: str) -> None:
        """Read a whole template again and compare it with its manifest, whatever is remembered.

        Raises:
            SnapshotUnusable: it is not there, or has changed; names the file.
        """
        folder = self._folder / key
        (folder / _CHECKED).unlink(missing_ok=True)
        if self.find(key) is None:
            raise SnapshotUnusable(f"There is no template {key}.", hint="")

    def contents(self) -> list[Shelved]:
        """Return everything on the shelf but what is being made, most recently used first."""
        try:
            names = sorted(
                entry.name for entry in os.scandir(self._folder) if (self._folder / entry / MANIFEST).exists()
            )
        except FileNotFoundError:
            return []
        return sorted(map(self._shelved, names), key=lambda shelved: -shelved.used_at)

    def touch(self, key: str) -> None:
        """Note that a template was used just now."""
        with contextlib.suppress(OSError):
            (self._folder / key / _USED).touch(mode=0o600)

    def remove(self, key: str) -> bool:
        """Remove a template; return whether it was there. Forks of it go on: they hold its files open."""
        folder = self._folder / key
        was_there = (folder / MANIFEST).exists()
        self._discard(folder)
        return was_there

    def evict(self, budget: int, keep: Collection[str] = ()) -> list[str]:
        """Remove the least recently used until the rest takes at most `budget` bytes; return the removed keys."""
        removed = []
        total = 0
        for shelved in self.contents():
            total += shelved.size
            if total > budget and shelved.key not in keep:
                total -= shelved.size
                self.remove(shelved.key)
                removed.append(shelved.key)
        return removed

    def make_room(self, needed: int, shape: Shape) -> None:
        """Remove templates until `needed` bytes are free on their disk; none where that would not do.

        Those of the shape that is to be made go first: they are of something that has changed since.
        """
        contents = self.contents()
        if shutil.disk_usage(self._folder).free + sum(shelved.size for shelved in contents) < needed:
            return
        for shelved in sorted(contents, key=lambda one: (not _is_of(one, shape), one.used_at)):
            if shutil.disk_usage(self._folder).free >= needed:
                return
            self.remove(shelved.key)

    def discard(self, template: Template) -> bool:
        """Remove this very template, and not one that was made since under its key; return whether it was there."""
        try:
            present, _ = _read_manifest(template.folder)
        except FileNotFoundError:
            return False
        except SnapshotUnusable:
            return self.remove(template.key)
        return present.created_at == template.created_at and self.remove(template.key)

    def sweep(self) -> None:
        """Remove what a crash in the middle of making or removing has left; only the leader may call it."""
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(self._folder)):
                ours = entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
                if ours and not (self._folder / entry.name / MANIFEST).exists():
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _shelved(self, key: str) -> Shelved:
        folder = self._folder / key
        template, problem = None, None
        try:
            template, _ = _read_manifest(folder)
        except (SnapshotUnusable, FileNotFoundError) as error:
            problem = str(error)
        size = sum(_blocks_of(folder / part) for part in PARTS)
        return Shelved(key=key, template=template, size=size, used_at=_changed(folder / _USED), problem=problem)

    def _discard(self, folder: Path) -> None:
        # Without its manifest it is no template any more: a removal that is cut short leaves nothing that looks whole.
        with contextlib.suppress(FileNotFoundError):
            (folder / MANIFEST).unlink()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def _check(self, folder: Path, sums: dict[str, str]) -> None:
        if self._remembered(folder) == self._mark(folder, sums):
            return
        for part, expected in sums.items():
            try:
                found = sparse_sha256(folder / part)
            except OSError as error:
                raise _damaged(folder, part, error.strerror or str(error)) from error
            if found != expected:
                raise _damaged(folder, part, "does not have the checksum of its manifest")
        self._remember(folder, sums)

    def _remembered(self, folder: Path) -> object:
        try:
            return json.loads((folder / _CHECKED).read_bytes())
        except (OSError, ValueError):
            return None

    def _remember(self, folder: Path, sums: dict[str, str]) -> None:
        # Where it can't be written, everything is read again next time.
        with contextlib.suppress(OSError):
            (folder / _CHECKED).write_text(json.dumps(self._mark(folder, sums)))

    def _mark(self, folder: Path, sums: dict[str, str]) -> list[object]:
        """Return what stays the same as long as nobody writes to the parts."""
        marks: list[object] = [self._boot_id]
        for part, expected in sorted(sums.items()):
            try:
                status = (folder / part).stat()
            except OSError:
                return [part, "can't be looked at"]
            marks.append([part, expected, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino])
        return marks


def _read_manifest(folder: Path) -> tuple[Template, dict[str, str]]:
    try:
        text = (folder / MANIFEST).read_bytes()
        raw = json.loads(text)
        if raw["format"] != _FORMAT or set(raw["sha256"]) != set(PARTS):
            raise ValueError("it is of another format")
        template = Template(
            key=folder.name, shape=parse_shape("shape", raw["shape"]), image_version=str(raw["image"]),
            accelerator=str(raw["accelerator"]), made_with=str(raw["made_with"]),
            created_at=float(raw["created_at"]), folder=folder,
        )  # fmt: skip
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
        raise _damaged(folder, MANIFEST, f"can't be read: {error}") from error
    return template, {str(part): str(value) for part, value in raw["sha256"].items()}


def _is_of(shelved: Shelved, shape: Shape) -> bool:
    return shelved.template is not None and shelved.template.shape == shape


def _damaged(folder: Path, part: str, what: str) -> SnapshotUnusable:
    return SnapshotUnusable(f"The template {folder.name} is damaged: {part} {what}.", hint="It is made anew by itself.")


def _blocks_of(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
