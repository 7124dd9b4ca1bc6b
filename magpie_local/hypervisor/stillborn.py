"""VMs that died before they were born: what libvirt must not see when it opens a root again.

When libvirt's process is killed in the middle of a start, it can leave the status of a domain whose QEMU never came to
be: its pid is 0, because the child still waited for libvirt's word and ended without it. The next libvirt then waits
30 s for that QEMU's monitor, and whoever lists domains waits with it. (Met by killing engines at random; where QEMU had
been started, libvirt finds it or sees at once that it has gone.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BELOW_ROOT = "run/qemu"
#: Held by whoever has the root open.
_LOCK = "driver.pid"


def remove_stillborn(root: Path) -> list[str]:
    """Remove the status of domains without a process from an embed root; return their names.

    A domain that is being started looks the same, so where a libvirt has the root open nothing is touched.
    """
    folder = root / _BELOW_ROOT
    if not folder.is_dir():
        return []
    with _closed_to_libvirt(folder) as closed:
        stillborn = [status for status in sorted(folder.glob("*.xml")) if _pid(status) == "0"] if closed else []
        for status in stillborn:
            status.unlink(missing_ok=True)
            status.with_suffix(".pid").unlink(missing_ok=True)
    return [status.stem for status in stillborn]


@contextlib.contextmanager
def _closed_to_libvirt(folder: Path) -> Iterator[bool]:
    """Hold libvirt's own lock on a root; yields False where a libvirt holds it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _pid(status: Path) -> str | None:
    """Return the process that a domain's status names; None where that can't be told."""
    with contextlib.suppress(OSError, ET.ParseError):
        for _, element in ET.iterparse(status, ("start",)):
            return element.get("pid") if element.tag == "domstatus" else None
    return None
