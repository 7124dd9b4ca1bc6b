"""The shape of a VM: what two VMs must share for one to be a fork of the other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from magpie_local.domain.spec import check_image_name
from magpie_local.errors import InvalidInput

_SHAPE = re.compile(r"([^:]+):(\d{1,4}):(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What a user can choose of it; the rest (versions, machine, accelerator) is in a template's key."""

    image: str
    vcpus: int
    memory_mb: int

    def __str__(self) -> str:
        return f"{self.image}:{self.vcpus}:{self.memory_mb}"


def parse_shape(field: str, text: object) -> Shape:
    """Return the shape written as IMAGE:VCPUS:MIB.

    Raises:
        InvalidInput: it is none; names `field`.
    """
    match = _SHAPE.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[2]) < 1 or int(match[3]) < 1:
        raise InvalidInput(field, text, "a shape is IMAGE:VCPUS:MIB, for example base:1:512")
    check_image_name(match[1])
    return Shape(match[1], int(match[2]), int(match[3]))
