"""QEMU's own commands, for what libvirt has no words for."""

from __future__ import annotations

import json
from typing import Any


class SnapshotError(Exception):
    """Device state can't be saved or loaded."""


def monitor(domain: Any, command: str, descriptor: int | None = None, **arguments: object) -> dict[str, Any]:
    """Have QEMU carry out a monitor command.

    A file goes in as a descriptor: the sandbox that libvirt puts QEMU into kills it for a migration to `exec:`.
    """
    import libvirt_qemu

    text = json.dumps({"execute": command, "arguments": arguments})
    if descriptor is not None:
        libvirt_qemu.qemuMonitorCommandWithFiles(domain, text, [descriptor], 0)
        return {}
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, text, 0))
    if "error" in answer:
        raise SnapshotError(answer["error"].get("desc", "QEMU refused"))
    returned = answer.get("return")
    return returned if isinstance(returned, dict) else {}


def monitor_text(domain: Any, command: str) -> str:
    """Return what a monitor command for people prints: QEMU has no other that tells of network backends."""
    import libvirt_qemu

    text: str = libvirt_qemu.qemuMonitorCommand(domain, command, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
    return text
