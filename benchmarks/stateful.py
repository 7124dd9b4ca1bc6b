"""What a workspace adds to a warm start: `python -m benchmarks.stateful [--json FILE]`.

create() called -> first output line in the reader's hands, with and without a workspace, in turn; the difference, pair
by pair; and of it what the host does, by the job's own story: to look at the disk, to plug it, to note that. The rest
is the guest, which finds the disk and mounts it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Figure, report, times
from benchmarks.warm.bench import client, wait_for_pool
from magpie_local.domain.states import EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local import Magpie
    from magpie_local.domain.job import Event

_WORKSPACE = {"stateful": True, "workspace_id": "bench"}
_LIMIT = 60.0
#: Spans of a start, in milliseconds, between the record of the intent and that of the agent's first answer.
_OF_THE_VM = ("create_ms", "load_ms", "resume_ms", "hello_ms")


@dataclass(frozen=True)
class Start:
    """One start; all in seconds."""

    total: float
    #: From the claim to the intent: the disks are there.
    prepare: float
    #: From the intent to the agent's first answer, without what QEMU and the guest took: rows, and the plug.
    plug: float
    #: The guest mounts, and the host notes it; 0 without a workspace.
    mount: float
    noted: float

    @property
    def host(self) -> float:
        """What the host does that a workspace may add to."""
        return self.prepare + self.plug + self.noted


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.stateful")
    parser.add_argument("--starts", type=int, default=20, help="pairs of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    report("warm starts with a workspace", measure(options.starts), json_file=options.json)


def measure(count: int) -> list[Figure]:
    """Start `count` pairs of each kind in turn; the order within a pair changes with each."""
    pairs: dict[str, list[tuple[Start, Start]]] = {"pool": [], "fork": []}
    with client(pool=2) as pooled, client(pool=0) as forking:
        clients = {"pool": pooled, "fork": forking}
        for one in clients.values():  # the disk of a new workspace is made once
            _start(one, "", **_WORKSPACE)
        for at in range(count):
            for kind, one in clients.items():
                pairs[kind].append(_pair(one, kind, beside=pooled, turned=at % 2 == 1))
    return [figure for kind, found in pairs.items() for figure in _figures(kind, found)]


def _pair(client: Magpie, kind: str, *, beside: Magpie, turned: bool) -> tuple[Start, Start]:
    """Return a plain start and one with a workspace."""
    found = {}
    for stateful in (True, False) if turned else (False, True):
        wait_for_pool(beside)  # it refills behind each job, and must not disturb the next
        found[stateful] = _start(client, kind, **(_WORKSPACE if stateful else {}))
    return found[False], found[True]


def _start(client: Magpie, expected: str, **options: Any) -> Start:
    """Run a job and return how its start went, when its VM has gone.

    Raises:
        RuntimeError: it was started in another way than expected.
    """
    began = time.monotonic()
    job = client.jobs.create("start", "echo hello", **options)
    next(chunk for chunk in client.jobs.stream_logs(job.id) if chunk.stream == "stdout")
    total = time.monotonic() - began
    done = client.jobs.wait(job.id)
    if expected and (done.start != expected or not done.success):
        raise RuntimeError(f"job {job.id} should have been a {expected} start that succeeds, and was {done}")
    story = client.jobs.story(job.id)
    give_up = time.monotonic() + _LIMIT
    while client.jobs.get(job.id).vm_state != "gone":  # it has the workspace until then
        if time.monotonic() > give_up:
            raise TimeoutError(f"the VM of {job.id} does not go")
        time.sleep(0.02)
    client.jobs.delete(job.id)
    return _read(story, total)


def _read(story: Sequence[Event], total: float) -> Start:
    at = {event.kind: event.time for event in story}
    spans = {
        name: float(value or 0)
        for event in story
        for name, value in event.detail.items()
        if name.endswith("_ms")
    }  # fmt: skip
    up = at[EventKind.VM_READY] - at[EventKind.VM_BOOTING]
    return Start(
        total=total,
        prepare=at[EventKind.VM_BOOTING] - at[EventKind.CLAIMED],
        plug=up - sum(spans.get(name, 0.0) for name in _OF_THE_VM) / 1000,
        mount=spans.get("mount_ms", 0.0) / 1000,
        noted=spans.get("noted_ms", 0.0) / 1000,
    )


def _figures(kind: str, pairs: Sequence[tuple[Start, Start]]) -> list[Figure]:
    plain, stateful = zip(*pairs, strict=True)
    return [
        times(f"{kind}: plain", [one.total for one in plain]),
        times(f"{kind}: with a workspace", [one.total for one in stateful]),
        times(f"{kind}: difference, pair by pair", [b.total - a.total for a, b in pairs], goal="p50 <= 800"),
        times(f"{kind}: of it the host's work", [b.host - a.host for a, b in pairs], goal="p50 <= 50"),
        times(f"{kind}:   look at the disk", [b.prepare - a.prepare for a, b in pairs]),
        times(f"{kind}:   plug it", [b.plug - a.plug for a, b in pairs]),
        times(f"{kind}:   note the mount", [one.noted for one in stateful]),
        times(f"{kind}: of it the guest's mount", [one.mount for one in stateful]),
    ]


if __name__ == "__main__":
    main()
