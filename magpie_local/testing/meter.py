"""What a fake VM takes of the host: the counters of its process and of all below it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.metrics import Reading
from magpie_local.domain.procfs import Stat, parse_private, parse_stat
from magpie_local.testing.processes import descendants
from magpie_local.testing.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Collection

    from magpie_local.domain.ids import VmId

_TICKS = os.sysconf("SC_CLK_TCK")


class FakeMeter:
    """The Meter port on fake VMs.

    Args:
        folder: the registry of the FakeHypervisor.
    """

    def __init__(self, folder: Path) -> None:
        self._registry = Registry(folder)

    def read(self, vm_ids: Collection[VmId]) -> dict[VmId, Reading]:
        """Return a reading of each VM that has a process."""
        readings = {vm_id: self._read(vm_id) for vm_id in vm_ids}
        return {vm_id: reading for vm_id, reading in readings.items() if reading is not None}

    def _read(self, vm_id: VmId) -> Reading | None:
        record = self._registry.read(vm_id)
        if record is None or record.pid is None or record.started is None or not record.is_alive():
            return None
        tree = (record.pid, *descendants(record.pid))
        at, stats = time.monotonic(), [stat for pid in tree if (stat := _stat(pid)) is not None]
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - record.started / _TICKS
        # What has ended below one of them was waited for, and is counted with it.
        ticks = sum(stat.cpu + stat.children_cpu for stat in stats)
        return Reading(at=at, age=max(0.0, age), cpu_seconds=ticks / _TICKS, memory=sum(map(_memory, tree)))


def _stat(pid: int) -> Stat | None:
    with contextlib.suppress(OSError, ValueError):
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    return None


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError):
        return parse_private(Path(f"/proc/{pid}/status").read_text(errors="replace")) or 0
    return 0
