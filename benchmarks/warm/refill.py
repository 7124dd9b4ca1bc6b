"""Whether the pool refills at the expense of jobs that run: one job beside a refill and beside a full pool, in turn."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.report import Figure, spread
from benchmarks.warm.bench import wait_for_pool

if TYPE_CHECKING:
    from magpie_local import Magpie

#: Forks in the pool: more than are added while one job runs, so that all of it is beside a refill.
POOL = 4
#: Guest CPU work for about 3 s in emulation. The same loop runs before it, unmeasured: QEMU has then translated it
#: however the VM was started, and the pool has waited for the starts to be over.
_SCRIPT = """\
spin() { for ((i = 0; i < $1; i++)); do :; done; }
sleep 0.6
spin 20000
began=$EPOCHREALTIME
spin 115000
echo "$began $EPOCHREALTIME"
"""
#: Seconds between two looks at the pool, the same beside a refill and beside a full pool.
_LOOK = 0.2


@dataclass
class _Run:
    """One job: when its measured part began and ended, and when the pool was last seen short of forks (wall clock)."""

    began: float
    ended: float
    short_until: float
    #: Forks that came to wait from when the pool held fewest to the job's end.
    added: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def refilling(self) -> float:
        """The part of it, in percent, during which the pool was not full."""
        return 100 * min(1.0, max(0.0, (self.short_until - self.began) / self.seconds))


def measure(pooled: Magpie, forking: Magpie, rounds: int) -> list[Figure]:
    """Run the job beside a full pool (as a fork of a client without one) and beside a refill, `rounds` times each."""
    full, refilling = [], []
    for _ in range(rounds):
        wait_for_pool(pooled, POOL)
        full.append(_run(forking, "fork", beside=pooled))
        _empty(pooled)
        refilling.append(_run(pooled, "pool", beside=pooled))
    ratios = [slow.seconds / quick.seconds for slow, quick in zip(refilling, full, strict=True)]
    return [
        spread("CPU work in a job, the pool full", [one.seconds for one in full], "s"),
        spread("the same while the pool refills", [one.seconds for one in refilling], "s"),
        spread("refilling / full, same round", ratios, "x"),
        spread("part of it with the pool not full", [one.refilling for one in refilling], "%"),
        spread("forks added by its end", [one.added for one in refilling], "forks"),
    ]


def _empty(client: Magpie) -> None:
    """Claim all forks but one, and have those jobs leave the machine."""
    jobs = [client.jobs.create(name="claim", script="true") for _ in range(POOL - 1)]
    for job in jobs:
        _check_start(client, job.id, "pool")
        client.jobs.delete(job.id, force=True)


def _run(client: Magpie, expected: str, *, beside: Magpie) -> _Run:
    job = client.jobs.create(name="work", script=_SCRIPT)
    short_until, least, at_end = 0.0, POOL, None
    waiting = POOL
    # The pool's report is up to half a second old, and the job takes longer than that.
    while at_end is None or waiting < POOL:
        time.sleep(_LOOK)
        waiting = sum(beside.monitoring.pool().waiting.values())
        least = min(least, waiting)
        if waiting < POOL:
            short_until = time.time()
        if at_end is None and client.jobs.get(job.id).is_final:
            at_end = waiting
    _check_start(client, job.id, expected)
    began, finished = map(float, client.jobs.get_logs(job.id).split())
    client.jobs.delete(job.id, force=True)
    return _Run(began, finished, short_until, at_end - least)


def _check_start(client: Magpie, job_id: str, expected: str) -> None:
    done = client.jobs.wait(job_id)
    if not done.success or done.start != expected:
        raise RuntimeError(f"job {job_id} should have been a {expected} start that succeeds, and was {done}")
