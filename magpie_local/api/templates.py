"""What one can do with templates, as coroutines on the engine's loop."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from magpie_local.api.checks import check_seconds, check_spec
from magpie_local.api.models import Confirmation, TemplateInfo, template_of
from magpie_local.domain.shape import Shape
from magpie_local.domain.spec import JobSpec
from magpie_local.engine.warm.report import read_report
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.errors import InvalidInput, TemplateFailed, TemplateNotFound, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.engine.engine import Engine
    from magpie_local.engine.warm.shelf import Shelved

#: A waiter looks by itself this often, should a ring be lost, seconds.
_LOOK = 0.5
#: Least part of a key that stands for the whole.
_LEAST_PREFIX = 4
#: Seconds after which a leader that says nothing of a pool is taken for one without templates.
_DEAF = 60.0


class TemplateService:
    """The verbs.

    Args:
        engine: the engine of this process.
        budget: disk space of all templates, bytes; 0 is off.
        summon: called after something was asked for; sees to it that somebody carries it out.
    """

    def __init__(self, engine: Engine, *, budget: int, summon: Callable[[], None]) -> None:
        self._engine = engine
        self._budget = budget
        self._summon = summon
        self.shelf = TemplateShelf(engine.ports.layout.templates, engine.ports.clock.boot_id())

    async def list(self) -> list[TemplateInfo]:
        """Return all templates, most recently used first."""
        return [template_of(shelved) for shelved in await asyncio.to_thread(self.shelf.contents)]

    async def remove(self, key: str) -> Confirmation:
        """Remove a template given by its key, or by a beginning that only it has."""
        whole = await self._resolve(key)
        if not await asyncio.to_thread(self.shelf.remove, whole):
            raise TemplateNotFound(f"There is no template {whole}.")
        self._engine.bell.ring()
        return Confirmation(id=whole, status="deleted", kind="template")

    async def warm(
        self, image: str = "base", vcpus: int = 1, memory_mb: int = 512, timeout: float | None = None
    ) -> TemplateInfo:
        """Return the template of a shape, made where it is not there."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        spec = JobSpec(name="template", script=b"true", vcpus=vcpus, memory_mb=memory_mb, image=image)
        await check_spec(self._engine, spec)
        if self._budget == 0:
            raise InvalidInput("templates", 0, "it is off", hint="Set MAGPIE_TEMPLATES to a size, say 8GiB.")
        await self._engine.can_accept()
        shape = Shape(image, vcpus, memory_mb)
        await asyncio.to_thread(self._engine.wishes.add, shape)
        self._engine.bell.ring()
        self._summon()
        await self._granted(shape, timeout)
        return await self._made(shape)

    async def _granted(self, shape: Shape, timeout: float | None) -> None:
        clock = self._engine.ports.clock
        began = clock.monotonic()
        give_up = math.inf if timeout is None else began + timeout
        while True:
            ring = self._engine.bell.listen()
            if shape not in await asyncio.to_thread(self._engine.wishes.all):
                return
            left = give_up - clock.monotonic()
            if left <= 0:
                raise WaitTimeout(f"The template of {shape} is not made within {timeout} s; it goes on.", hint="")
            if clock.monotonic() - began > _DEAF and self._nobody_warms():
                raise TemplateFailed("The process that leads keeps no templates.", hint="End it, or wait for its end.")
            await self._engine.bell.wait(ring, min(_LOOK, left))

    def _nobody_warms(self) -> bool:
        return self._engine.role == "other" and read_report(self._engine.ports.layout.pool_report) is None

    async def _made(self, shape: Shape) -> TemplateInfo:
        reason = await asyncio.to_thread(self._engine.wishes.refusal, shape)
        if reason is not None:
            raise TemplateFailed(f"There is no template of {shape}: {reason}")
        version = (await self._engine.ports.images.resolve(shape.image)).version
        found = [
            shelved
            for shelved in await asyncio.to_thread(self.shelf.contents)
            if shelved.template and (shelved.template.shape, shelved.template.image_version) == (shape, version)
        ]
        if not found:
            raise TemplateFailed(f"The template of {shape} was removed as soon as it was made.", hint="")
        return template_of(max(found, key=_made_at))

    async def _resolve(self, key: str) -> str:
        if not isinstance(key, str) or len(key.strip()) < _LEAST_PREFIX:
            raise InvalidInput("key", key, f"at least {_LEAST_PREFIX} characters of a template's key")
        prefix = key.strip().lower()
        keys = [shelved.key for shelved in await asyncio.to_thread(self.shelf.contents)]
        found = [known for known in keys if known.startswith(prefix)]
        if not found:
            raise TemplateNotFound(f"There is no template {key!r}.")
        if len(found) > 1:
            raise InvalidInput("key", key, f"several templates begin with it: {', '.join(sorted(found))}")
        return found[0]


def _made_at(shelved: Shelved) -> float:
    return shelved.template.created_at if shelved.template else 0.0
