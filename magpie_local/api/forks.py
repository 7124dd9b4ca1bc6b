"""The proof that forks are clean, carried out by ordinary jobs through the public verbs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from magpie_local.api.checks import check_whole
from magpie_local.domain.forkproof import PROBE, ForkFacts, facts_of, prove
from magpie_local.domain.states import EventKind
from magpie_local.errors import HostError, SnapshotUnusable

if TYPE_CHECKING:
    from magpie_local.api.jobs import JobService
    from magpie_local.api.models import Job
    from magpie_local.api.templates import TemplateService
    from magpie_local.domain.forkproof import ForkProof

LEAST, MOST = 2, 64
#: Seconds that a probe's script may take: on a busy host all of them run at once, perhaps in emulation.
_TIMEOUT = 300.0


async def verify_forks(
    jobs: JobService, templates: TemplateService, n: int = 4, image: str = "base", vcpus: int = 1, memory_mb: int = 512
) -> ForkProof:
    """Start `n` forks at once and return what their comparison shows.

    Raises:
        InvalidInput: a value is not allowed, or templates are off.
        TemplateFailed: there is none to fork from.
        HostError: a probe did not run to its end.
    """
    check_whole("n", n, LEAST, MOST)
    template = await templates.warm(image, vcpus, memory_mb)
    damage = {"before": await _damage(templates, template.key)}
    said = await _ask(jobs, n, image, vcpus, memory_mb)
    damage["after"] = await _damage(templates, template.key)
    return prove(template.key, said, damage)


async def _ask(jobs: JobService, n: int, image: str, vcpus: int, memory_mb: int) -> list[ForkFacts]:
    """Run `n` probes at once; whatever happens, nothing is left of them."""
    made: list[Job] = []
    try:
        for number in range(1, n + 1):
            name = f"fork proof {number}"
            made.append(
                await jobs.create(name, PROBE, vcpus, memory_mb, timeout=_TIMEOUT, image=image, isolation="shared")
            )
        return list(await asyncio.gather(*(_facts(jobs, job.id) for job in made)))
    finally:
        # A probe that can't be deleted now is an ended job like any other, and no reason to lose the proof.
        await asyncio.gather(*(jobs.delete(job.id, force=True) for job in made), return_exceptions=True)


async def _facts(jobs: JobService, job_id: str) -> ForkFacts:
    job = await jobs.wait(job_id)
    if not job.success:
        cause = job.message or job.reason or f"exit code {job.exit_code}"
        raise HostError(f"The proof can't be carried out: {job.name} {job.status}: {cause}")
    story = await jobs.story(job_id)
    claimed = max(event.time for event in story if event.kind is EventKind.CLAIMED)
    ended = next(event.time for event in story if event.kind is EventKind.EXITED)
    facts = facts_of(await jobs.text(job_id))
    return ForkFacts(job_id=job_id, start=job.start, after=claimed, before=ended, facts=facts)


async def _damage(templates: TemplateService, key: str) -> str | None:
    try:
        await asyncio.to_thread(templates.shelf.verify, key)
    except SnapshotUnusable as error:
        return error.message
    return None
