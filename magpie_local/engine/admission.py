"""Admission: which queued jobs may start now. Pure, so that the policy can be read and tested on one page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from magpie_local.domain.job import JobRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What all running VMs may use together."""

    cpus: int
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The jobs to start now, in order, and why the next one waits."""

    start: tuple[JobRecord, ...]
    blocked: JobRecord | None = None
    reason: str | None = None


def admit(queue: Sequence[JobRecord], running: Iterable[JobRecord], capacity: Capacity) -> Admission:
    """Decide which of `queue` (oldest first) start beside `running`.

    Strictly in order: the first that does not fit holds the others back, so that no large job starves. A job
    larger than the whole capacity starts when nothing else is there. A persistent VM whose script has ended takes
    memory, and no CPU: it idles, and a few of them must not keep all jobs from running.
    """
    used = list(running)
    cpus = sum(job.vcpus for job in used if not job.is_kept)
    memory = sum(job.memory_mb for job in used)
    start: list[JobRecord] = []
    for job in queue:
        reason = _shortage(job, cpus, memory, capacity)
        if reason is not None:
            return Admission(start=tuple(start), blocked=job, reason=reason)
        start.append(job)
        cpus += job.vcpus
        memory += job.memory_mb
    return Admission(start=tuple(start))


def short_of_memory(job: JobRecord, others: Iterable[JobRecord], capacity: Capacity, available_mb: int) -> str | None:
    """Return why a VM that sleeps can't wake now; None where it can.

    Its CPUs are not asked for: somebody waits for it, and they are shared anyway.

    Args:
        job: whose VM it is.
        others: those that have their memory.
        capacity: what all may use together.
        available_mb: what the host's programs could still have, MiB.
    """
    taken = [other.memory_mb for other in others]
    free = max(0, capacity.memory_mb - sum(taken))
    if taken and job.memory_mb > free:
        return f"waits for memory: wants {job.memory_mb} MiB, {free} of {capacity.memory_mb} MiB are free"
    if job.memory_mb > available_mb:
        return f"waits for memory: wants {job.memory_mb} MiB, the host has {available_mb} MiB left"
    return None


def _shortage(job: JobRecord, cpus: int, memory: int, capacity: Capacity) -> str | None:
    if cpus and cpus + job.vcpus > capacity.cpus:
        return f"waits for CPUs: wants {job.vcpus}, {max(0, capacity.cpus - cpus)} of {capacity.cpus} are free"
    if memory and memory + job.memory_mb > capacity.memory_mb:
        free = max(0, capacity.memory_mb - memory)
        return f"waits for memory: wants {job.memory_mb} MiB, {free} of {capacity.memory_mb} MiB are free"
    return None
