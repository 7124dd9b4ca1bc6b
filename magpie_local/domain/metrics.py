"""What a VM takes of the host, as samples of CPU time and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the host has counted for one VM up to an instant."""

    #: Seconds on the host's monotonic clock.
    at: float
    #: Seconds since the VM's process started.
    age: float
    #: CPU time since then, seconds, of all its threads: guest and emulation. Counted in ticks of about 10 ms.
    cpu_seconds: float
    #: Bytes of the host's memory that are its alone.
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a job's VM takes of the host, at one instant and since the sample before."""

    #: Seconds since the epoch, by the host's clock.
    time: float
    #: CPU use as a fraction of one core: 1.0 is one core busy all the time, a VM with 2 vCPUs may reach 2.0, and QEMU's
    #: own work adds a little.
    cpu: float
    #: Seconds that `cpu` is the mean of: since the sample before, or, of the first, since the VM's process started.
    seconds: float
    #: CPU time since the VM's process started, seconds.
    cpu_seconds: float
    #: Bytes of the host's memory that are the VM's alone, and free when it ends: the anonymous resident memory of its
    #: QEMU. What a fork shares with its template, because it has not changed it, does not count.
    memory: int

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


def sample_of(now: Reading, before: Reading | None, time: float) -> Sample:
    """Return the sample between two readings of one VM; without an earlier one, it is of the VM's life so far.

    Args:
        now: the later reading.
        before: the earlier one.
        time: the wall clock at the later one, seconds since the epoch.
    """
    seconds = now.age if before is None else now.at - before.at
    used = now.cpu_seconds - (0.0 if before is None else before.cpu_seconds)
    # The time of a process in a fake VM that has ended is missing until it was waited for.
    cpu = max(0.0, used / seconds) if seconds > 0 else 0.0
    return Sample(time=time, cpu=cpu, seconds=max(0.0, seconds), cpu_seconds=now.cpu_seconds, memory=now.memory)
