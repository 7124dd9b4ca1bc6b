"""The templates of one leader: lent, wished, made, and given up where they are bad."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from magpie_local.domain.ids import VmId, new_vm_id
from magpie_local.domain.network import NONE, GuestConfig
from magpie_local.domain.sizes import MIB, format_bytes
from magpie_local.domain.template import template_key
from magpie_local.engine.warm import policy
from magpie_local.engine.warm.maker import Plan, make_template
from magpie_local.engine.warm.memory import host_memory_mb
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.engine.warm.wishes import Wishes
from magpie_local.errors import HostDiskFull, HostError, MagpieError, NetworkUnavailable, SnapshotUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.domain.shape import Shape
    from magpie_local.domain.template import Template
    from magpie_local.domain.vm import BootImage, Features
    from magpie_local.engine.context import Options, Ports

_log = logging.getLogger("magpie.engine")


class Library:
    """Templates, and wishes for them.

    Args:
        ports: the world.
        options: budgets.
        features: the opened hypervisor.
        news: called, from any thread, when a template is wished.
    """

    def __init__(self, ports: Ports, options: Options, features: Features, news: Callable[[], None]) -> None:
        self._ports = ports
        self._options = options
        self._features = features
        self._news = news
        self.shelf = TemplateShelf(ports.layout.templates, ports.clock.boot_id())
        self.wishes = Wishes(ports.layout.templates)
        #: The template in the making, and its VM.
        self.making: tuple[Shape, VmId] | None = None

    def open(self) -> None:
        """Remove what an earlier leader left half done, and what a smaller budget has no room for."""
        self.shelf.sweep()
        self.shelf.evict(self._options.warm.templates_size)

    def key(self, shape: Shape, image: BootImage) -> str:
        """Return the key of the template that fits here and now."""
        return template_key(shape, image, self._features)

    def find(self, key: str, shape: Shape) -> Template | None:
        """Return a template for use now, or wish it."""
        template = self.whole(key)
        if template is None:
            self.wish(shape)
        else:
            self.shelf.touch(key)
        return template

    def whole(self, key: str) -> Template | None:
        """Return a template that may be used; a damaged one is removed, with one line about it."""
        try:
            return self.shelf.find(key)
        except SnapshotUnusable as error:
            _log.warning("%s", error, extra={"action": "template_bad"})
            self.shelf.remove(key)
            return None

    def wish(self, shape: Shape) -> None:
        """Wish a template, unless that failed lately."""
        if self.wishes.refusal(shape, now=self._ports.clock.now()) is None:
            with contextlib.suppress(OSError):  # a full disk; the next job tries again
                self.wishes.add(shape)
                self._news()

    def give_up(self, template: Template, why: object) -> None:
        """Throw away a template of which no fork comes up; it is not made anew by itself for a while."""
        _log.warning("the template of %s is given up: %s", template.shape, why, extra={"action": "template_bad"})
        try:
            if self.shelf.discard(template):
                self.wishes.refuse(template.shape, f"its forks did not come up: {why}")
        except OSError as error:
            _log.warning("%s can't be removed: %s", template.folder, error, extra={"action": "template_bad"})

    async def grant_one(self) -> bool:
        """Fulfil a wish, or refuse it; return whether there was one."""
        wished = await asyncio.to_thread(self.wishes.all)
        if not wished:
            return False
        shape = wished[0]
        try:
            image = await self._ports.images.resolve(shape.image)
            key = self.key(shape, image)
            if await asyncio.to_thread(self.whole, key) is None:
                await self._make(shape, key, image)
        except (MagpieError, OSError) as error:
            _log.warning("no template of %s: %s", shape, error, extra={"action": "template_failed"})
            await asyncio.to_thread(self.wishes.refuse, shape, str(error))
        else:
            await asyncio.to_thread(self.wishes.grant, shape)
        return True

    async def _make(self, shape: Shape, key: str, image: BootImage) -> None:
        free = policy.free_mb(*host_memory_mb())
        if free < shape.memory_mb:
            raise HostError(
                f"A template of {shape} needs {shape.memory_mb} MiB of memory, and {free:.0f} MiB are free."
            )
        plan = Plan(
            key=key, shape=shape, image=image, features=self._features, vm_id=new_vm_id(),
            boot_timeout=self._options.boot_timeout, network=await self._network(),
        )  # fmt: skip
        self.making = shape, plan.vm_id
        try:
            await make_template(self._ports, self.shelf, plan)
        finally:
            self.making = None
        await asyncio.to_thread(self._fit_budget, key, shape)

    async def _network(self) -> GuestConfig:
        if self._options.warm.network != NONE:
            with contextlib.suppress(NetworkUnavailable):
                return await self._ports.networks.expect_default()
        return GuestConfig()

    def _fit_budget(self, key: str, shape: Shape) -> None:
        budget = self._options.warm.templates_size
        size = next((one.size for one in self.shelf.contents() if one.key == key), 0)
        if size > budget:
            self.shelf.remove(key)
            needs, has = format_bytes(size), format_bytes(budget)
            hint = f"Set MAGPIE_TEMPLATES to {-(-size // MIB)}MiB or more."
            raise HostDiskFull(f"A template of {shape} takes {needs}, and all together may take {has}.", hint=hint)
        self.shelf.evict(budget, {key})
