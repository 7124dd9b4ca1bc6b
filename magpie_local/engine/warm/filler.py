"""The filler: keeps forks waiting of the shapes that are used, as long as nobody else needs the machine."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.engine.warm import policy
from magpie_local.engine.warm.memory import host_memory_mb
from magpie_local.engine.warm.pool import Pool
from magpie_local.errors import MagpieError, SnapshotUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.shape import Shape
    from magpie_local.domain.template import Template
    from magpie_local.domain.vm import BootImage
    from magpie_local.engine.context import Ports, WarmOptions
    from magpie_local.engine.warm.library import Library

_log = logging.getLogger("magpie.engine")

#: Seconds for which nothing is tried again with a template of which the pool could not be filled.
_SULK = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the leader does at this moment."""

    busy_cpus: int = 0
    starting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A shape that the pool serves."""

    shape: Shape
    image: BootImage
    #: Of the template that fits the shape here and now.
    key: str


class Filler:
    """Fills and empties the pool of one leader.

    Args:
        ports: the world.
        options: budgets.
        library: where templates come from.
        distrust: told of a template of which no fork comes up, and why.
    """

    def __init__(
        self, ports: Ports, options: WarmOptions, library: Library, distrust: Callable[[Template, object], None]
    ) -> None:
        self.pool = Pool(ports, options)
        self._ports = ports
        self._options = options
        self._library = library
        self._distrust = distrust
        self._load = Load()
        self._last_start = ports.clock.monotonic()
        self._sulks: dict[str, float] = {}

    def note(self, load: Load) -> None:
        """Take notice of what the leader does."""
        if load.starting > self._load.starting:
            self.note_start()
        self._load = load

    def note_start(self) -> None:
        """Take notice of a job that starts now."""
        self._last_start = self._ports.clock.monotonic()

    async def step(self) -> bool:
        """Add a fork, or end those that no job could get any more; return whether there was anything to do."""
        if self._options.pool == 0:
            return False
        served = {one.key: one for one in await self._served()}
        if await self.pool.drain({template.key for template in self.pool.waiting} - served.keys()):
            return True
        situation = await asyncio.to_thread(self.situation)
        now = self._ports.clock.monotonic()
        awake = [key for key in served if self._sulks.get(key, 0.0) <= now]
        for key in policy.lacking(situation, awake, self._options):
            if await self._fill(served[key]):
                return True
        return False

    async def relieve(self) -> bool:
        """Give the pool's memory back where the host is short of it; return whether that was so."""
        if not len(self.pool) or not policy.is_short(await asyncio.to_thread(self.situation)):
            return False
        ended = await self.pool.drain()
        _log.info("memory is short: %d waiting forks ended", ended, extra={"action": "pool_drained"})
        return True

    def situation(self) -> policy.Situation:
        """Return what there is to decide by."""
        total, available = host_memory_mb()
        pooled = [*self.pool.waiting, *self.pool.coming]
        return policy.Situation(
            host_cpus=os.cpu_count() or 1, busy_cpus=self._load.busy_cpus, starting=self._load.starting,
            quiet=self._ports.clock.monotonic() - self._last_start,
            pooled=Counter(template.key for template in pooled),
            pool_mb=len(pooled) * policy.FORK_COST_MB, host_mb=total, available_mb=available,
        )  # fmt: skip

    async def _served(self) -> list[Served]:
        """Return the shapes to serve; one whose image is not there is served again when it is."""
        served = []
        for shape in await asyncio.to_thread(self._shapes):
            try:
                image = await self._ports.images.resolve(shape.image)
            except (MagpieError, OSError):
                continue
            served.append(Served(shape=shape, image=image, key=self._library.key(shape, image)))
        return served

    def _shapes(self) -> list[Shape]:
        used = [(one.template.shape, one.used_at) for one in self._library.shelf.contents() if one.template is not None]
        return policy.shapes_to_serve(self._options.pool_shapes, used, self._ports.clock.now())

    async def _fill(self, served: Served) -> bool:
        """Add a fork; where that is not possible now, others have their turn."""
        template = None
        try:
            template = await asyncio.to_thread(self._library.whole, served.key)
            if template is None:
                if served.shape in self._options.pool_shapes:
                    await asyncio.to_thread(self._library.wish, served.shape)
                return False
            await self.pool.add(template, served.image)
        except SnapshotUnusable as error:
            assert template is not None
            self._distrust(template, error)
        except (MagpieError, OSError) as error:
            _log.warning("no fork of %s for the pool: %s", served.shape, error, extra={"action": "fill_failed"})
        else:
            return True
        self._sulks[served.key] = self._ports.clock.monotonic() + _SULK
        return False
