"""Packages from where this host's apt gets them, without changing anything of the host."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable
from benchmarks.references.processes import run
from magpie_local.errors import MagpieError
from magpie_local.images.aptsources import distribution_sources
from magpie_local.images.host import this_host
from magpie_local.images.rootfs import _apt_settings

if TYPE_CHECKING:
    from pathlib import Path

_DEPENDS = re.compile(r"^\s+Depends: (\S+)$", re.MULTILINE)


def codename() -> str:
    """Return the name of the host's release.

    Raises:
        ReferenceUnavailable: it is no Debian, which the references are described for.
    """
    try:
        host = this_host()
    except MagpieError as error:
        raise ReferenceUnavailable(error.message) from error
    if host.distribution != "debian":
        raise ReferenceUnavailable(f"it takes Debian's packages, and this host's are {host.distribution}'s")
    return host.codename


def architecture(cwd: Path) -> str:
    """Return the host's architecture in Debian's words."""
    return run("dpkg", "--print-architecture", cwd=cwd).strip()


def fetch_dependency(package: str, folder: Path) -> Path:
    """Download the one package that the meta package `package` stands for, and return its file.

    The lists of packages are read afresh into `folder`: the host's may be empty or old, and are root's.

    Raises:
        ReferenceUnavailable: the archive can't be reached, or has no such package.
    """
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = (
        "-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}",
        "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
    )  # fmt: skip
    run("apt-get", *own, "--quiet", "--error-on=any", "update", cwd=folder)
    found = _DEPENDS.findall(run("apt-cache", *own, "depends", "--important", package, cwd=folder))
    if not found:
        raise ReferenceUnavailable(f"the archive has no package {package}")
    run("apt-get", *own, "--quiet", "download", found[0], cwd=folder)
    (file,) = folder.glob(f"{found[0]}_*.deb")
    return file


def write_sources(folder: Path) -> tuple[Path, Path]:
    """Write the host's archives and apt settings, for mmdebstrap, into files that only we can read.

    Raises:
        ReferenceUnavailable: the host's apt names no archive of its own release.
    """
    sources = distribution_sources(codename())
    if not sources:
        raise ReferenceUnavailable("this host's apt names no archive of its own release")
    archives, settings = folder / "archives.sources", folder / "apt.conf"
    for path, data in (
        (archives, "\n".join(source.deb822() for source in sources).encode()),
        (settings, asyncio.run(_apt_settings(folder))),
    ):
        path.touch(mode=0o600)
        path.write_bytes(data)
    return archives, settings
