"""What networks need of this machine, for `magpie doctor`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from magpie_local.domain.need import Need
from magpie_local.errors import NetworkUnavailable
from magpie_local.hypervisor.net.addresses import families_with_a_way_out
from magpie_local.hypervisor.net.uplink import PROGRAM, Inside, passt_path, start_gate

if TYPE_CHECKING:
    from pathlib import Path


def network_need(folder: Path) -> Need:
    """Say whether the default network works, by really starting its gate; private networks and `none` need nothing.

    Args:
        folder: for a socket; a short path, of nobody else's.
    """
    try:
        found, families = passt_path(), families_with_a_way_out()
        if not families:
            detail = f"{found}; this machine has no way out now, and so have none its VMs"
            return Need(name=PROGRAM, ok=True, detail=detail, cure=None)
        start_gate(folder / "g", families, Inside())
    except NetworkUnavailable as error:
        return Need(name=PROGRAM, ok=False, detail=error.message, cure=error.hint)
    # The gate ends with its first client.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder / "g"))
    return Need(name=PROGRAM, ok=True, detail=f"{found}, for IPv{' and IPv'.join(families)}", cure=None)
