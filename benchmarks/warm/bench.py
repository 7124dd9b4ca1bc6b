"""The state directories that the warm benchmarks work in: one with a pool, one with forks only."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 300.0
#: A report of the pool may be that old, seconds.
_STALE = 0.6
_SCRIPT = "echo hello"


@contextmanager
def client(*, pool: int) -> Iterator[Magpie]:
    """Yield a client of an empty state directory with templates, and with `pool` waiting forks (0: none)."""
    # Short: sockets lie below it.
    home = Path(tempfile.mkdtemp(prefix="mgpbench", dir="/var/tmp"))
    settings = config.load(home=home, pool=pool, templates="8 GiB", keeper=False)
    try:
        with Magpie(settings=settings) as made:
            made.templates.warm()
            yield made
    finally:
        shutil.rmtree(home)


def wait_for_pool(client: Magpie, count: int = 2) -> None:
    """Return when `count` forks wait and nothing else is going on."""
    give_up = time.monotonic() + _LIMIT
    time.sleep(_STALE)
    while time.monotonic() < give_up:
        status = client.monitoring.pool()
        if sum(status.waiting.values()) >= count and not status.coming and not status.making:
            return
        time.sleep(0.05)
    raise TimeoutError(f"the pool never held {count} forks: {client.monitoring.pool()}")


def first_output(client: Magpie, expected: str, *, isolation: str = "shared") -> tuple[float, str]:
    """Return the seconds from create() to the first output line, and the job's id, after checking how it started."""
    began = time.monotonic()
    job = client.jobs.create(name="start", script=_SCRIPT, isolation=isolation)
    next(chunk for chunk in client.jobs.stream_logs(job.id) if chunk.stream == "stdout")
    took = time.monotonic() - began
    done = client.jobs.wait(job.id)
    if done.start != expected:
        raise RuntimeError(f"job {job.id} should have been a {expected} start and was {done.start}")
    return took, job.id
