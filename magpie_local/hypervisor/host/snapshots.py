"""The state of a domain to a file, and back."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from magpie_local.hypervisor.host.monitor import SnapshotError, monitor

#: Memory is left out of a device state where it is in a shared file.
_MEMORY_STAYS = [{"capability": "x-ignore-shared", "state": True}]
_QEMU_ARGUMENT = "{http://libvirt.org/schemas/domain/qemu/1.0}arg"
#: Seconds; it takes 0.05.
_MIGRATION_BUDGET = 30.0


def load(domain: Any, path: str) -> None:
    """Load the device state of a snapshot into a domain that was started for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        monitor(domain, "migrate-set-capabilities", capabilities=_MEMORY_STAYS)
        monitor(domain, "getfd", descriptor, fdname="state")
        monitor(domain, "migrate-incoming", uri="fd:state")
        await_migration(domain)
    finally:
        os.close(descriptor)


def save(domain: Any, path: str) -> None:
    """Write a paused domain's device state; its memory is in its file already, and its disks are flushed by this."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        monitor(domain, "migrate-set-capabilities", capabilities=_MEMORY_STAYS)
        monitor(domain, "getfd", descriptor, fdname="state")
        monitor(domain, "migrate", uri="fd:state")
        await_migration(domain)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def written_files(xml: str) -> list[str]:
    """Return the files that hold a frozen domain's memory and its writable disks."""
    import xml.etree.ElementTree as ET  # for this verb only

    domain = ET.fromstring(xml)
    disks = [disk for disk in domain.iterfind("devices/disk") if disk.find("readonly") is None]
    paths = [source.get("file", "") for disk in disks for source in disk.iterfind("source")]
    values = [argument.get("value", "") for argument in domain.iter(_QEMU_ARGUMENT)]
    paths += [json.loads(value).get("mem-path", "") for value in values if value.startswith("{")]
    return [path for path in paths if path]


def is_shared(domain: Any) -> bool:
    """Say whether others may map a domain's memory: that of a template."""
    return '"share": true' in domain.XMLDesc(0).replace("&quot;", '"')


def sync(path: str) -> None:
    """Have a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def await_migration(domain: Any, budget: float = _MIGRATION_BUDGET) -> None:
    """Return when QEMU has written its state to a file, or read it; `budget` in seconds."""
    give_up = time.monotonic() + budget
    while (status := monitor(domain, "query-migrate")).get("status") != "completed":
        if status.get("status") in ("failed", "cancelled") or time.monotonic() > give_up:
            raise SnapshotError(status.get("error-desc") or f"device state: {status.get('status')}")
        time.sleep(0.002)
