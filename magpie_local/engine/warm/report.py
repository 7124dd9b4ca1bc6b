"""What the leader says of its pool, in a file: other processes want to know, and can't ask it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """The pool at one moment; shapes are written IMAGE:VCPUS:MIB."""

    #: Forks wanted for each shape, and memory that all may take (MiB).
    forks: int
    memory_mb: int
    #: Memory that they are counted with, MiB.
    used_mb: int
    #: Forks that wait for a job, and that are on their way, by shape.
    waiting: Mapping[str, int] = field(default_factory=dict)
    coming: Mapping[str, int] = field(default_factory=dict)
    #: The shape whose template is in the making.
    making: str | None = None


def write_report(path: Path, report: PoolReport) -> None:
    """Replace the report, unless it says the same; where that fails, there is none."""
    if read_report(path) == report:
        return
    fresh = path.with_name(f".{path.name}")
    with contextlib.suppress(OSError):
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(report), file)
        fresh.replace(path)


def read_report(path: Path) -> PoolReport | None:
    """Return the leader's last word on its pool; None where nobody leads, or it has no pool."""
    try:
        return PoolReport(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
