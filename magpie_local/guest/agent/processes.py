"""The processes around the agent, by /proc."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

if not TYPE_CHECKING:
    # The core of `signal`, without the enums that cost an emulated guest a tenth of a second.
    import _signal as signal

#: PF_KTHREAD, of a process's flags: a thread of the kernel.
_KERNEL_THREAD = 0x200000


class Process:
    """A living process: neither a zombie nor a thread of the kernel."""

    __slots__ = ("group", "parent", "pid", "session")

    def __init__(self, pid: int, parent: int, group: int, session: int) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session


def living() -> Iterator[Process]:
    """Yield the living processes."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                # The command's name, in brackets, may hold anything; the state and the numbers follow it.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X") and not int(fields[6]) & _KERNEL_THREAD:
            yield Process(int(name), *map(int, fields[1:4]))


def others_in_group(group: int) -> bool:
    """Return whether a process group has living members beside its leader."""
    return any(one.group == group and one.pid != group for one in living())


def kill_session(session: int) -> None:
    """Kill what is left of a session whose leader is dead: background jobs have process groups of their own."""
    for _ in range(10):  # a fork bomb may need several rounds
        members = [one.pid for one in living() if one.session == session and one.pid != session]
        if not members:
            return
        send(members, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """Return the living descendants of a process."""
    children: dict[int, list[int]] = {}
    for one in living():
        children.setdefault(one.parent, []).append(one.pid)
    found: list[int] = []
    front = [root]
    while front:
        front = [child for parent in front for child in children.get(parent, ())]
        found += front
    return found


def send(pids: list[int], number: int) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def ordinary_oom_score(pid: int) -> None:
    """Undo the agent's own protection against the kernel's memory killer, before a child comes to start anything."""
    try:
        score = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)
    except OSError:
        return  # it has ended
    try:
        os.write(score, b"0")
    except OSError:
        return  # never below zero, and no right to lower it
    finally:
        os.close(score)
