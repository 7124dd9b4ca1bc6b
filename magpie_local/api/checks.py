"""Checks of arguments that several verbs share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from magpie_local.config import host_limits
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from magpie_local.domain.spec import JobSpec
    from magpie_local.engine.engine import Engine


async def check_spec(engine: Engine, spec: JobSpec) -> None:
    """Raise InvalidInput, ImageNotFound or ImageBroken where no VM can be had for `spec` here."""
    spec.check(host_limits())
    boot = await engine.ports.images.resolve(spec.image)
    spec.check(host_limits(boot.min_memory_mb))


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raise InvalidInput unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(name, value, f"a whole number from {least} to {most}")


def check_seconds(name: str, value: object) -> None:
    """Raise InvalidInput unless `value` is a time to wait."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InvalidInput(name, value, "a number of seconds, 0 or more")
