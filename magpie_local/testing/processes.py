"""Processes and their descendants, by /proc; only ever ones whose number and start time are known."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

#: How often in a row nobody must be seen: who goes on in a new process at the right instant is missed by one look.
_LOOKS = 3


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where there is none (or only its zombie)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    fields = _stat(pid)
    return fields is not None and fields[0] == "T"


def descendants(root: int) -> list[int]:
    """Return the living descendants of a process."""
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        fields = _stat(pid)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    front = [root]
    while front:
        front = [child for parent in front for child in children.get(parent, ())]
        found += front
    return [pid for pid in found if start_time(pid) is not None]


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def stop_tree(root: int) -> None:
    """Stop a process and all its descendants; returns when none of them runs."""
    send([root], signal.SIGSTOP)
    while running := [pid for pid in (root, *descendants(root)) if start_time(pid) and not is_stopped(pid)]:
        send(running, signal.SIGSTOP)
        time.sleep(0.002)


def kill_tree(root: int) -> None:
    """Kill a VM's process and all below it; the stopped root adopts orphans, but starts and ends nothing."""
    send([root], signal.SIGSTOP)
    kill_descendants(root)
    send([root], signal.SIGKILL)


def kill_descendants(root: int) -> None:
    """Kill all descendants of a process that adopts its orphans, until there are none.

    They are stopped first, so that none forks while the others are killed.
    """
    unseen = 0
    while unseen < _LOOKS:
        alive = descendants(root)
        unseen = 0 if alive else unseen + 1
        if alive:
            send(alive, signal.SIGSTOP)
            send(descendants(root), signal.SIGKILL)
            time.sleep(0.002)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third (the state) on; the second may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
