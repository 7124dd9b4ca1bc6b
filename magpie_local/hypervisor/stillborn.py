"""VMs that died before they were born: what libvirt must not see when it opens a root again.

When libvirt's process is killed in the middle of a start, it can leave the status of a domain whose QEMU never came
to be: its pid is 0, because
the child still waited for libvirt's word and ended without it. The next libvirt then waits 30 s for that QEMU's
monitor, and whoever
lists domains waits with it. (Met by killing engines at random; where QEMU had been started, libvirt finds it or sees
at once that it has gone.)
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BELOW_ROOT = "run/qemu"


def remove_stillborn(root: Path) -> list[str]:
    """Remove the status of domains without a process from an embed root; return their names.

    To be called only where no libvirt has the root open.
    """
    names = []
    for status in sorted((root / _BELOW_ROOT).glob("*.xml")):
        if _pid(status) == "0":
            status.unlink(missing_ok=True)
            status.with_suffix(".pid").unlink(missing_ok=True)
            names.append(status.stem)
    return names


def _pid(status: Path) -> str | None:
    """Return the process that a domain's status names; None where that can't be told."""
    with contextlib.suppress(OSError, ET.ParseError):
        for _, element in ET.iterparse(status, ("start",)):
            return element.get("pid") if element.tag == "domstatus" else None
    return None
