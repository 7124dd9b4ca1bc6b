"""A libvirt connection that comes back: time budgets, a new host where one is lost, errors in our words."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from magpie_local.errors import HypervisorTimeout, HypervisorUnavailable
from magpie_local.hypervisor.channel import Channel, ChannelLost, LibvirtError
from magpie_local.hypervisor.host import CLOSED, NO_LIBVIRT
from magpie_local.hypervisor.place import EMBED
from magpie_local.hypervisor.stillborn import remove_stillborn

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.hypervisor.place import Place

#: Seconds for the whole of opening: a daemon may have to be started, or be waiting 30 s for a QEMU that has died.
OPEN_BUDGET = 45.0
#: Seconds that another process may hold the root for: a former leader's host that ends its held VMs, then itself.
_ROOT_BUDGET = 5.0
_BACK_OFF = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6)


class Connection:
    """libvirt at one place. `call` reopens it where it was lost (F47)."""

    def __init__(self, place: Place, events: Callable[[str, str], None]) -> None:
        self._place = place
        self._events = events
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        #: VMs that are to end with the engine; each new host is told.
        self.held: set[str] = set()
        #: What `open` of the host said: versions as libvirt counts them.
        self.versions: dict[str, int] = {}

    async def close(self) -> None:
        """Leave libvirt; VMs go on."""
        self._closed = True
        async with self._opening:
            await self._drop()

    async def call(self, verb: str, *arguments: object, budget: float, again: bool = True) -> Any:
        """Carry out one verb of the host.

        Args:
            verb: its name.
            arguments: its arguments.
            budget: seconds, with reopening.
            again: may be asked twice, so a lost connection is mended here; otherwise ChannelLost is raised.

        Raises:
            LibvirtError: libvirt refused.
            HypervisorTimeout, HypervisorUnavailable, ChannelLost.
        """
        try:
            async with asyncio.timeout(budget):
                return await self._call(verb, arguments, again)
        except TimeoutError:
            # Its thread may hang for good: the next call starts another host.
            if self._channel is not None:
                self._channel.lost = True
            raise HypervisorTimeout(
                f"libvirt did not finish `{verb}` within {budget:.0f} s.",
                hint="The machine may be overloaded; what was asked may still have been done.",
            ) from None

    async def _call(self, verb: str, arguments: tuple[object, ...], again: bool) -> Any:
        while True:
            channel = await self._opened()
            try:
                return await channel.ask(verb, *arguments)
            except LibvirtError as error:
                if error.code != CLOSED:
                    raise
                channel.lost = True
            except ChannelLost:
                pass
            if not again:
                raise ChannelLost

    async def _opened(self) -> Channel:
        async with self._opening:
            if self._closed:
                raise HypervisorUnavailable("The hypervisor is closed.", hint="Open it again.")
            if self._channel is None or self._channel.lost:
                await self._drop()
                self._channel = await self._reopen()
            return self._channel

    async def _reopen(self) -> Channel:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ROOT_BUDGET
        for pause in (*_BACK_OFF, None):
            try:
                return await self._open_once()
            except LibvirtError as error:
                held = "acquire pid file" in str(error)
                # A first open that is refused stays refused; one that worked before may be between two daemons.
                lasting = loop.time() > deadline if held else not self.versions
                if lasting or pause is None or error.code == NO_LIBVIRT:
                    raise self._refusal(error, held) from error
            except ChannelLost:
                if pause is None:
                    raise HypervisorUnavailable(f"libvirt at {self._place.uri} ends as soon as it is opened.") from None
            await asyncio.sleep(pause)
        raise AssertionError("the last round returns or raises")

    async def _open_once(self) -> Channel:
        if self._place.label == EMBED:
            await asyncio.to_thread(remove_stillborn, self._place.folder)
        channel = await Channel.start(self._place.environment, self._events)
        try:
            self.versions = await channel.ask("open", self._place.uri, sorted(self.held))
        except BaseException:
            await channel.end()
            raise
        return channel

    async def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(OSError):
                await channel.end()

    def _refusal(self, error: LibvirtError, held: bool) -> HypervisorUnavailable:
        if error.code == NO_LIBVIRT:
            return HypervisorUnavailable(
                f"The Python package `libvirt` can't be imported: {error}.",
                hint="pip install libvirt-python (built against libvirt: apt-get install libvirt-dev pkg-config gcc).",
            )
        if held:
            return HypervisorUnavailable(
                f"Another process has opened the hypervisor's root {self._place.folder}.",
                hint="Only the process that leads this state directory may; end it, or use another MAGPIE_HOME.",
            )
        return HypervisorUnavailable(f"libvirt refuses {self._place.uri}: {error}.")
