"""What the kernel's files under /proc say of a process, read from their text (proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

from magpie_local.domain.sizes import KIB

_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The part of /proc/PID/stat that is used here. Times in clock ticks, of which sysconf tells the length."""

    #: CPU time of all its threads, in user and kernel mode, a guest's included.
    cpu: int
    #: The same of its children that have ended, and of theirs, as far as they were waited for.
    children_cpu: int
    #: When it started, after the host's boot. Together with the number it names one process for good.
    started: int


def parse_stat(text: str) -> Stat:
    """Return what /proc/PID/stat says; the program's name in it may hold anything, spaces and brackets too.

    Raises:
        ValueError: it is no such file.
    """
    fields = text.rpartition(")")[2].split()
    try:
        user, system, children_user, children_system = map(int, fields[11:15])
        return Stat(cpu=user + system, children_cpu=children_user + children_system, started=int(fields[19]))
    except (IndexError, ValueError):
        raise ValueError(f"this is no /proc/PID/stat: {text[:40]!r}") from None


def parse_private(text: str) -> int | None:
    """Return the anonymous resident memory, bytes, by /proc/PID/status; None for a process that has ended.

    The kernel's count of it lags by some hundred KiB.
    """
    match = _ANONYMOUS.search(text)
    return KIB * int(match[1]) if match else None
