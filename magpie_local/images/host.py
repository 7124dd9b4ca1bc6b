"""The machine that builds: its distribution and its CPU architecture. An image is of the same kind."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from magpie_local.errors import ImageBuildFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What an image has in common with the machine that builds it."""

    #: `debian` or `ubuntu`, as in os-release.
    distribution: str
    #: `12`
    release: str
    #: `bookworm`
    codename: str
    #: In QEMU's words: x86_64, aarch64.
    architecture: str


def this_host() -> Host:
    """Return this machine.

    Raises:
        ImageBuildFailed: it does not say what release it is (os-release(5)).
    """
    try:
        release = platform.freedesktop_os_release()
        return Host(
            distribution=release["ID"],
            release=release.get("VERSION_ID", ""),
            codename=release["VERSION_CODENAME"],
            architecture=platform.machine(),
        )
    except (OSError, KeyError) as error:
        raise ImageBuildFailed(
            f"this is no Debian or Ubuntu release: os-release has no {error}",
            hint="Build on a Debian or Ubuntu machine and copy the image's folder here.",
        ) from None
