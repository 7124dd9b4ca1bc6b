"""The files of a frozen fake VM: small ones, whose damage shows."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from magpie_local.errors import HostError, SnapshotUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.vm import Snapshot


def make_memory(path: Path, vm_id: str, memory_mb: int) -> None:
    """Make the file that stands for a VM's memory.

    Raises:
        HostError: it is there already.
    """
    _make_new(path, {"memory_of": vm_id, "memory_mb": memory_mb})


def save_devices(path: Path, ram: Path) -> None:
    """Make the file that stands for a VM's device state; it knows the memory that it belongs to.

    Raises:
        HostError: it is there already, or the memory is not.
    """
    try:
        _make_new(path, {"ram": _digest(ram)})
    except FileNotFoundError:
        raise HostError(f"The fake VM's memory {ram} has gone.", hint="") from None


def check_snapshot(snapshot: Snapshot, memory_mb: int) -> None:
    """Raise SnapshotUnusable unless both files are whole, belong together and have this size."""
    try:
        devices = json.loads(snapshot.devices.read_bytes())
        ram = json.loads(snapshot.ram.read_bytes())
        fits = devices["ram"] == _digest(snapshot.ram) and ram["memory_mb"] == memory_mb
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotUnusable(f"The fake snapshot can't be read: {error}.", hint="") from None
    if not fits:
        raise SnapshotUnusable(f"The fake snapshot {snapshot.ram.parent} is damaged.", hint="")


def _make_new(path: Path, content: dict[str, object]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise HostError(f"Can't make {path}: it is there already.", hint="") from None
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
