"""What the kernel's files under /proc say of a process, read from their text (proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

from magpie_local.domain.sizes import KIB

_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The part of /proc/PID/stat that is used here. Times in clock ticks, of which sysconf tells the length."""

    #: One letter: R runs, S sleeps, Z has ended and waits to be noticed.
    state: str
    parent: int
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
        return Stat(
            state=fields[0], parent=int(fields[1]), cpu=user + system, children_cpu=children_user + children_system,
            started=int(fields[19]),
        )  # fmt: skip
    except (IndexError, ValueError):
        raise ValueError(f"this is no /proc/PID/stat: {text[:40]!r}") from None


def parse_pss(text: str) -> int | None:
    """Return the proportional set size, bytes, by /proc/PID/smaps_rollup; None for a process that has ended."""
    return _kib(_PSS, text)


def parse_rss(text: str) -> int | None:
    """Return the resident set size, bytes, by /proc/PID/status; None for a process that has ended."""
    return _kib(_RSS, text)


def _kib(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return KIB * int(match[1]) if match else None
