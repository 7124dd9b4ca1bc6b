"""Names of peers: a guest on a named network learns of jobs that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.network import RESERVED
from magpie_local.engine.network import private
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from magpie_local.engine.context import Ports
    from magpie_local.engine.ledger import Ledger
    from magpie_local.engine.line import GuestLine


class Peers:
    """Keeps one guest's /etc/hosts up to date while its line is open.

    Args:
        ports: the world.
        ledger: the attempt.
        line: to its agent.
    """

    def __init__(self, ports: Ports, ledger: Ledger, line: GuestLine) -> None:
        self._ports = ports
        self._ledger = ledger
        self._line = line
        self._told: tuple[str, ...] | None = None

    async def look(self) -> None:
        """Tell the guest where something has changed since the last look."""
        job = self._ledger.job
        if job.network in RESERVED:
            return
        try:
            config = await private(self._ports, job)
        except MagpieError:
            return  # the network is being removed: nobody is left to be told of
        if config.hosts != self._told and await self._line.join(config):
            self._told = config.hosts
