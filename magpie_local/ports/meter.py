"""The meter port: what VMs take of the host. tests/contract/test_meter.py runs against QEMU and the fake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.metrics import Reading


class Meter(Protocol):
    """Reads the kernel's counters. Any process of the user's may, leader or not; VMs and the leader notice nothing."""

    def read(self, vm_ids: Collection[VmId]) -> Mapping[VmId, Reading]:
        """Return a reading of each of these VMs; one without a process (yet, or any more) is missing.

        It blocks for some milliseconds, more with many VMs: call it in a thread; several may at once.
        """
        ...
