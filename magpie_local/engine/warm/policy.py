"""What the warmer does next, as pure functions: jobs come first, then templates, then the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.domain.pooling import FORK_COST_MB as FORK_COST_MB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from magpie_local.domain.shape import Shape
    from magpie_local.engine.context import WarmOptions

#: Shapes besides the configured ones that the pool serves, and for how long after their last use, seconds.
MAX_RECENT, RECENCY = 3, 24 * 3600.0
#: Seconds after a job's start in which nothing is done in the background: a burst of jobs has the machine to itself.
QUIET = 0.5
#: The part of the host's memory that the pool leaves free, and must not be the cause of running out.
RESERVE = 1 / 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the policy looks at. Memory in MiB, times in seconds."""

    #: Physical CPUs of the host, and virtual ones of jobs whose script has not ended.
    host_cpus: int
    busy_cpus: int
    #: Jobs whose VM is coming up.
    starting: int
    #: Since the last job's start.
    quiet: float
    #: Waiting and coming forks by their template's key, and what they take together.
    pooled: Mapping[str, int]
    pool_mb: int
    #: The host's memory: all of it, and what could be had without swapping.
    host_mb: int
    available_mb: int


def may_work(situation: Situation) -> bool:
    """Whether background work would slow no job: none is starting, and a CPU is idle."""
    return (
        situation.starting == 0
        and situation.quiet >= QUIET
        and (situation.busy_cpus < situation.host_cpus or situation.busy_cpus == 0)
    )


def lacking(situation: Situation, keys: Sequence[str], options: WarmOptions) -> list[str]:
    """Return the templates of which the pool should get one more fork, the first that can be had.

    The least provided come first, then in the order of `keys`; none where there is no room or no time for a fork.
    """
    room = options.pool_memory_mb - situation.pool_mb >= FORK_COST_MB
    # A fork more than what is needed stays free: one that grows must not be the end of all.
    if not may_work(situation) or not room or _free(situation) < 2 * FORK_COST_MB:
        return []
    wanting = [key for key in keys if situation.pooled.get(key, 0) < options.pool]
    return sorted(wanting, key=lambda key: situation.pooled.get(key, 0))


def is_short(situation: Situation) -> bool:
    """Whether the pool must give its memory back."""
    return _free(situation) < 0


def free_mb(host_mb: float, available_mb: float) -> float:
    """Return the memory that background work may take, of what the host has and has left (all in MiB)."""
    return available_mb - RESERVE * host_mb


def shapes_to_serve(configured: Iterable[Shape], used: Iterable[tuple[Shape, float]], now: float) -> list[Shape]:
    """Return the shapes that the pool serves, the most important first.

    Args:
        configured: those that the user named; where there are any, only they count.
        used: shapes and when each was last used (wall clock).
        now: wall clock.
    """
    named = list(dict.fromkeys(configured))
    if named:
        return named
    recent = sorted(((at, shape) for shape, at in used if now - at < RECENCY), reverse=True)
    return list(dict.fromkeys(shape for _, shape in recent))[:MAX_RECENT]


def _free(situation: Situation) -> float:
    return free_mb(situation.host_mb, situation.available_mb)
