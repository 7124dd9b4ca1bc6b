"""The manifest of a built image: what it holds, from what it was made, and the checksums of its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The files of every image; the manifest lies beside them.
KERNEL, INITRD, ROOT, SCRATCH = "vmlinuz", "initrd", "root.erofs", "scratch.qcow2"
FILES = (KERNEL, INITRD, ROOT, SCRATCH)
MANIFEST = "manifest.json"

_FORMAT = 1
_DIGEST_LENGTH = 16


class ManifestError(ValueError):
    """A manifest can't be read; says why."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an image holds."""

    name: str
    #: Digest over `files`: changes when anything in the image does.
    version: str
    #: Digest over all that goes into a build: the same recipe needs no second build.
    recipe: str
    #: Digest over what of it is ours inside the guest; empty in images that were built before it was noted.
    guest: str = ""
    #: `debian 12 bookworm`
    distribution: str
    architecture: str
    kernel_release: str
    cmdline: str
    min_memory_mb: int
    #: UTC, ISO 8601.
    built_at: str
    build_seconds: float
    files: Mapping[str, FileFacts]
    #: Version of each Debian package.
    packages: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {"format": _FORMAT, **asdict(self)}

    def dump(self) -> bytes:
        """Return it as the text of manifest.json."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False).encode() + b"\n"


def parse(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it is damaged, or of another format.
    """
    try:
        raw = json.loads(data)
        if raw["format"] != _FORMAT:
            raise ManifestError(f"its format is {raw['format']!r}, this version reads {_FORMAT}")
        manifest = Manifest(
            **{key: _text(raw, key) for key in _TEXTS},
            guest=_text({"guest": ""} | raw, "guest"),
            min_memory_mb=int(raw["min_memory_mb"]),
            build_seconds=float(raw["build_seconds"]),
            files={
                name: FileFacts(int(raw["files"][name]["size"]), str(raw["files"][name]["sha256"])) for name in FILES
            },
            packages={str(name): str(version) for name, version in raw["packages"].items()},
        )
    except ManifestError:
        raise
    except KeyError as error:
        raise ManifestError(f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(str(error)) from None
    if manifest.version != version_of(manifest.files):
        raise ManifestError("its version does not match its checksums")
    return manifest


def facts_of(path: Path) -> FileFacts:
    """Read a file to its end and return its facts."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileFacts(file.tell(), digest.hexdigest())


def version_of(files: Mapping[str, FileFacts]) -> str:
    """Return the version of an image with these files."""
    lines = "".join(f"{name} {files[name].sha256}\n" for name in FILES)
    return hashlib.sha256(lines.encode()).hexdigest()[:_DIGEST_LENGTH]


_TEXTS = (
    "name", "version", "recipe", "distribution", "architecture", "kernel_release", "cmdline", "built_at",
)  # fmt: skip


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str):
        raise ManifestError(f"{key} is {value!r}, not text")
    return value
