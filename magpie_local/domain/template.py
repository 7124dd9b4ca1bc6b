"""Templates: frozen VMs of one shape, and what makes one fit or unfit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.vm import Disk, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.shape import Shape
    from magpie_local.domain.vm import BootImage, Features

MANIFEST, RAM, DEVICES, SCRATCH, BLANK = "manifest.json", "ram", "devices", "scratch.qcow2", "blank.qcow2"
#: What a template is made of; each is checked before it is used.
PARTS = (RAM, DEVICES, SCRATCH, BLANK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A whole template on disk."""

    #: Digest of all that a fork must have in common with it.
    key: str
    shape: Shape
    #: The image's version.
    image_version: str
    accelerator: str
    #: What made it, in words: QEMU's and libvirt's versions.
    made_with: str
    #: Wall clock, seconds since the epoch.
    created_at: float
    folder: Path

    @property
    def snapshot(self) -> Snapshot:
        """What forks start from."""
        return Snapshot(ram=self.folder / RAM, devices=self.folder / DEVICES)

    @property
    def scratch(self) -> Disk:
        """Its disk, frozen at the same instant as its memory."""
        return Disk(path=self.folder / SCRATCH, format="qcow2", readonly=True)

    @property
    def blank(self) -> Path:
        """An empty overlay on `scratch`: a copy of it is a fork's disk."""
        return self.folder / BLANK


def template_key(shape: Shape, image: BootImage, features: Features) -> str:
    """Return the key of the template that fits a shape here and now; any change of what it depends on changes it."""
    facts = (str(shape), image.version, image.cmdline, features.accelerator.value, features.fingerprint)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]
