"""Our own guest, for the references that start it without us."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable
from magpie_local.errors import MagpieError
from magpie_local.images.catalogue import ImageCatalogue

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.vm import BootImage


def base_image(images: Path) -> BootImage:
    """Return the image that jobs run in.

    Raises:
        ReferenceUnavailable: it is not built, or damaged.
    """
    try:
        return asyncio.run(ImageCatalogue(images).resolve("base"))
    except MagpieError as error:
        raise ReferenceUnavailable(f"{error.message} ({error.hint})") from error
