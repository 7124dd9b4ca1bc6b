"""Fresh randomness and the time, for a guest that may have stood still."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from magpie_local.domain.identity import ENTROPY_SIZE, Renewal

if TYPE_CHECKING:
    from magpie_local.ports.clock import Clock


def new_renewal(clock: Clock) -> Renewal:
    """Return a renewal for this instant; each is used once."""
    return Renewal(now=clock.now(), entropy=os.urandom(ENTROPY_SIZE))
