"""Jobs end to end through the public API, on real VMs: `.venv/bin/python -m benchmarks.jobs [--json FILE]`.

cold start         create() called -> first output line in the reader's hands, against the bare reference
guest, in turn
completion         the exit record is in the log file -> wait() has returned
log latency        a record is in the log file -> the follower has it
100 MB log         whole, cap raised: rate, and what the engine's memory grew by
flood              a guest that writes without end under the default cap: what the host pays
loop lag           the longest time that the engine's loop did not answer while all that ran
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.references import spike_guest
from benchmarks.report import number, report, spread, times
from magpie_local import Magpie
from magpie_local.domain.frames import GAP_PAYLOAD
from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from benchmarks.report import Figure

_SPIKE = Path(__file__).resolve().parent.parent.parent / "shared" / "spikes" / "make_guest.sh"
_GUEST = Path("/var/tmp/magpie-bench-guest")
_LINES = "for i in $(seq 1 100); do echo line $i; sleep 0.05; done"


def main() -> None:
    """Measure, and print a table."""
    options = _options()
    report("jobs on real VMs", measure(options.starts, options.flood), json_file=options.json)


def measure(starts: int = 10, flood_seconds: int = 20) -> list[Figure]:
    """Run all parts on one engine, and return their figures."""
    with Magpie() as client:
        lag = LagProbe(client)
        figures = [
            *cold_starts(client, starts),
            completion(client, starts),
            log_latency(client),
            *large_log(client),
            *flood(client, flood_seconds),
        ]
        lags = lag.stop()
    return [*figures, times("engine loop lag", lags), number("longest", 1000 * max(lags), "ms", goal="<= 50")]


def cold_starts(client: Magpie, count: int) -> list[Figure]:
    """Measure this project's cold start and the bare guest's in turn, so that a drift of the machine hits both."""
    guest = spike_guest.build(_SPIKE, _GUEST) if _SPIKE.exists() else None
    ours, bare = [], []
    for _ in range(count):
        ours.append(_first_output(client))
        if guest is not None:
            bare.append(spike_guest.start_seconds(guest))
    figures = [spread("cold start, create() to first output", ours, "s")]
    if bare:
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        figures.append(spread("reference: bare QEMU, shell agent", bare, "s"))
        figures.append(spread("cold start / reference, pair by pair", ratios, "x", goal="<= 1.3"))
    return figures


def completion(client: Magpie, count: int) -> Figure:
    """Measure from the exit record's arrival in the log file to the return of wait()."""
    late = []
    for _ in range(count):
        job = client.jobs.create(name="completion", script="echo done")
        client.jobs.wait(job.id)
        returned = time.time()
        late.append(returned - _log(client, job.id).stat().st_mtime)
    return times("exit record written to wait() returned", late, goal="<= 100")


def log_latency(client: Magpie) -> Figure:
    """Measure from the record's arrival in the log file to the follower's hands."""
    job = client.jobs.create(name="latency", script=_LINES)
    late: list[float] = []
    for chunk in client.jobs.stream_logs(job.id):
        now = time.time()
        if chunk.stream == "stdout":
            late.append(now - _log(client, job.id).stat().st_mtime)
    return times("output written to reader", late, goal="p95 <= 50")


def large_log(client: Magpie) -> list[Figure]:
    """Measure 100 MB of output with the cap raised."""
    size = 100 * 1000 * 1000
    before = psutil.Process().memory_info().rss
    job = client.jobs.create(
        name="large log", log_limit=256 * MIB, script=f"sleep 1; head -c {size} /dev/zero; echo; date >&2"
    )
    peak, received, first, last = before, 0, 0.0, 0.0
    for chunk in client.jobs.stream_logs(job.id):
        if chunk.stream == "stdout":
            first = first or time.monotonic()
            last = time.monotonic()
            received += len(chunk.data)
        peak = max(peak, psutil.Process().memory_info().rss)
    assert received == size + 1, f"{received} of {size + 1} bytes arrived"
    return [
        number("100 MB log with the cap raised", received / 1e6 / max(last - first, 1e-6), "MB/s", goal=">= 10"),
        number("this process grew by", (peak - before) / MIB, "MiB", goal="<= 32"),
    ]


def flood(client: Magpie, seconds: int) -> list[Figure]:
    """Measure what an endless writer costs the host under the default cap."""
    before = psutil.Process().memory_info().rss
    job = client.jobs.create(name="flood", script="yes flooding the log", timeout=seconds)
    client.jobs.wait(job.id)
    grown = (psutil.Process().memory_info().rss - before) / MIB
    gap = next(chunk for chunk in client.jobs.stream_logs(job.id) if chunk.stream == "note")
    (dropped,) = GAP_PAYLOAD.unpack(gap.data)
    return [
        number(f"{seconds} s of flood: the log file", _log(client, job.id).stat().st_size / MIB, "MiB", goal="<= 16"),
        number("of it dropped in the guest", dropped / MIB, "MiB"),
        number("this process grew by", grown, "MiB", goal="<= 32"),
    ]


class LagProbe:
    """Asks the engine's loop for the time every 20 ms, and notes how late it answers."""

    def __init__(self, client: Magpie) -> None:
        self._lags: list[float] = []
        self._runtime = client.jobs._runtime
        self._task = self._runtime.call(self._begin())

    async def _begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while True:
            due = time.monotonic() + 0.02
            await asyncio.sleep(0.02)
            self._lags.append(time.monotonic() - due)

    def stop(self) -> list[float]:
        """Return all lags, seconds."""
        self._runtime.call(self._end())
        return self._lags

    async def _end(self) -> None:
        self._task.cancel()


def _first_output(client: Magpie) -> float:
    began = time.monotonic()
    job = client.jobs.create(name="cold start", script="echo hello from $(uname -r)")
    stream = client.jobs.stream_logs(job.id)
    next(chunk for chunk in stream if chunk.stream == "stdout")
    elapsed = time.monotonic() - began
    client.jobs.wait(job.id)
    _settle(client, job.id)
    return elapsed


def _settle(client: Magpie, job_id: str) -> None:
    """Wait until the VM has gone: its end must not slow the next start."""
    for _ in itertools.count():
        if client.jobs.get(job_id).vm_state == "gone":
            return
        time.sleep(0.1)


def _log(client: Magpie, job_id: str) -> Path:
    return client.settings.home / "jobs" / job_id / str(client.jobs.get(job_id).attempt) / "log"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=10, help="cold starts to measure")
    parser.add_argument("--flood", type=int, default=20, help="seconds of flood")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


if __name__ == "__main__":
    os.umask(0o077)
    main()
