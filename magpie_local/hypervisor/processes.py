"""QEMU's processes, as the kernel shows them: they tell a VM's end before libvirt does.

libvirt reports the end when the process has been reaped, which is PID 1's work: up to 2 s later where that is slow, as
in containers. A pidfd becomes readable at the exit itself (measured: 10 ms after destroy began), when files, locks and
sockets are released. It is only watched, never signalled: libvirt ends VMs.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_PROC = Path("/proc")


def find_qemu(vm_ids: Collection[str]) -> dict[str, int]:
    """Return a pidfd for each VM whose QEMU process is there; reads /proc, so call it in a thread."""
    found: dict[str, int] = {}
    for entry in _PROC.iterdir() if vm_ids else ():
        if not entry.name.isdigit() or _vm_of(entry) not in vm_ids:
            continue
        try:
            pidfd = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        # The number may have become another process's since: look again, now that it is held.
        vm_id = _vm_of(entry)
        if vm_id in vm_ids and vm_id not in found:
            found[str(vm_id)] = pidfd
        else:
            os.close(pidfd)
    return found


class Exits:
    """Calls back on the event loop when a VM's process exits. Where pidfds don't exist it stays silent (F53)."""

    def __init__(self, gone: Callable[[str], None]) -> None:
        self._gone = gone
        self._pidfds: dict[str, int] = {}
        self._exits: dict[str, asyncio.Event] = {}

    def exit_of(self, vm_id: str) -> asyncio.Event:
        """Return the event that is set when this VM's process exits; never, where it is not watched."""
        return self._exits.setdefault(vm_id, asyncio.Event())

    def has_exited(self, vm_id: str) -> bool:
        """Say whether this VM's process was seen to exit; libvirt may still show the VM."""
        return vm_id in self._exits and self._exits[vm_id].is_set()

    def forget(self, vm_id: str) -> None:
        """Drop what is known of a VM: libvirt has none of this id any more."""
        self._unwatch(vm_id)
        exited = self._exits.pop(vm_id, None)
        if exited is not None:
            exited.set()

    async def watch(self, vm_ids: Collection[str]) -> None:
        """Watch these VMs as well; one already watched, or without a process, is passed over."""
        fresh = [vm_id for vm_id in vm_ids if vm_id not in self._pidfds]
        if not fresh:
            return
        loop = asyncio.get_running_loop()
        for vm_id, pidfd in (await asyncio.to_thread(find_qemu, fresh)).items():
            if vm_id in self._pidfds:
                os.close(pidfd)
                continue
            self._pidfds[vm_id] = pidfd
            loop.add_reader(pidfd, self._exited, vm_id)

    def close(self) -> None:
        """Stop watching."""
        for vm_id in list(self._pidfds):
            self._unwatch(vm_id)
        self._exits.clear()

    def _exited(self, vm_id: str) -> None:
        self._unwatch(vm_id)
        self.exit_of(vm_id).set()
        self._gone(vm_id)

    def _unwatch(self, vm_id: str) -> None:
        pidfd = self._pidfds.pop(vm_id, None)
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)


def _vm_of(process: Path) -> str | None:
    """Return the id of the VM that this process runs; None where it is no QEMU or can't be read."""
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if not os.path.basename(arguments[0]).startswith(b"qemu-system-") or b"-uuid" not in arguments[:-1]:
        return None
    return arguments[arguments.index(b"-uuid") + 1].decode("ascii", "replace")
