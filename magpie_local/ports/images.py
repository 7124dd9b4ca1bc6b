"""The images port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from magpie_local.domain.vm import BootImage


class Images(Protocol):
    """Where VMs get what they boot."""

    async def resolve(self, name: str) -> BootImage:
        """Return a built image whose files are all there with the sizes of its manifest.

        Raises:
            ImageNotFound: no such image, or not built yet; says how to build it.
            ImageStale: built by another version of ours, so that no VM of it would ever be ready.
            ImageBroken: a file is missing or has another size or checksum.
        """
        ...
