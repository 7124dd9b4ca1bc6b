"""How many forks may wait: what one costs, and what fits into a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.shape import Shape, parse_shape
from magpie_local.domain.sizes import MIB, format_bytes
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.domain.spec import HostLimits

#: What a waiting fork takes of the host's memory with its network's two processes, MiB (measured: docs/benchmarks.md).
FORK_COST_MB = 160
#: Forks kept waiting per shape, where nobody says otherwise and memory allows.
USUAL = 2
#: Written for no shapes at all: an empty variable counts as unset.
NO_SHAPES = "none"


def fitting(memory: int, shapes: Sequence[Shape]) -> int:
    """Return how many forks of each shape fit into `memory` (bytes); without shapes, of one."""
    return memory // MIB // FORK_COST_MB // max(1, len(shapes))


def check_pool(count: int, memory: int, shapes: Sequence[Shape], *, hint: str = "") -> None:
    """Raise InvalidInput where a pool does not fit into its memory (bytes)."""
    fits = fitting(memory, shapes)
    if count <= fits:
        return
    of_each = f" of each of {len(shapes)} shapes" if len(shapes) > 1 else ""
    needed = count * max(1, len(shapes)) * FORK_COST_MB * MIB
    raise InvalidInput(
        "pool", count,
        f"{count} waiting forks{of_each} take about {format_bytes(needed)}, and pool_memory is {format_bytes(memory)}:"
        f" at most {fits}, or more pool_memory",
        hint=hint,
    )  # fmt: skip


def parse_shapes(field: str, value: object, limits: HostLimits) -> tuple[Shape, ...]:
    """Return shapes given as a list, or as text with commas between them, each once.

    Raises:
        InvalidInput: one is no shape, or larger than the host; names it.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise InvalidInput(field, value, "shapes IMAGE:VCPUS:MIB with commas between them, or a list of such")
    if value == NO_SHAPES:
        return ()
    shapes = [_shape(field, part) for part in parts if part != ""]
    for shape in shapes:
        _check_size(field, shape, limits)
    return tuple(dict.fromkeys(shapes))


def write_shapes(shapes: Sequence[Shape]) -> str:
    """Return shapes as text that `parse_shapes` reads."""
    return ",".join(map(str, shapes)) or NO_SHAPES


def _shape(field: str, part: object) -> Shape:
    if isinstance(part, Shape):
        return part
    return parse_shape(field, part.strip() if isinstance(part, str) else part)


def _check_size(field: str, shape: Shape, limits: HostLimits) -> None:
    if shape.vcpus > limits.vcpus:
        raise InvalidInput(field, str(shape), f"a VM has at most {limits.vcpus} vCPUs here")
    if not limits.min_memory_mb <= shape.memory_mb <= limits.memory_mb:
        raise InvalidInput(field, str(shape), f"a VM has {limits.min_memory_mb} to {limits.memory_mb} MiB here")
