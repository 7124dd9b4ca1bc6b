"""What a VM really takes of the host's memory: pages shared by n processes count one n-th for each."""

from __future__ import annotations

import os
import re
from pathlib import Path

from magpie_local.hypervisor.processes import find_qemu

_KIB = 1024
_PROC = Path("/proc")
_PID = re.compile(r"^Pid:\t(\d+)$", re.MULTILINE)
_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


def proportional_set_size(vm_id: str) -> int:
    """Return the proportional set size (PSS) of a VM's QEMU process, bytes.

    Raises:
        ProcessLookupError: no QEMU runs this VM.
        PermissionError: it belongs to another user.
    """
    pidfd = find_qemu([vm_id]).get(vm_id)
    if pidfd is None:
        raise ProcessLookupError(f"no QEMU process runs the VM {vm_id}")
    try:
        pid = _first(_PID, _PROC / "self" / "fdinfo" / str(pidfd))
        if pid is None:
            raise ProcessLookupError(f"the QEMU process of the VM {vm_id} has just ended")
        return process_pss(pid)
    finally:
        os.close(pidfd)


def process_pss(pid: int) -> int:
    """Return the proportional set size of a process, bytes.

    Raises:
        ProcessLookupError: there is no such process, or it has ended.
        PermissionError: it belongs to another user.
    """
    try:
        pss = _first(_PSS, _PROC / str(pid) / "smaps_rollup")
    except FileNotFoundError:
        pss = None
    if pss is None:
        raise ProcessLookupError(f"process {pid} has no memory: it has ended")
    return _KIB * pss


def _first(pattern: re.Pattern[str], path: Path) -> int | None:
    match = pattern.search(path.read_text())
    return int(match[1]) if match else None
