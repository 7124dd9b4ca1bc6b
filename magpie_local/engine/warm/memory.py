"""The host's memory, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def host_memory_mb() -> tuple[int, int]:
    """Return all memory of the host, and what programs could still have without swapping, MiB."""
    wanted = {"MemTotal": 0, "MemAvailable": 0}
    for line in _MEMINFO.read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name in wanted:
            wanted[name] = int(rest.split()[0]) // 1024
    return wanted["MemTotal"], wanted["MemAvailable"]
