"""Limits that the guest's agent enforces, and the engine where the guest does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.job import Attempt, JobRecord
    from magpie_local.domain.layout import AttemptFiles
    from magpie_local.ports.clock import Clock

#: Bytes by which a file that the guest writes may pass the job's limit: frames, headers, what the agent says of itself.
_SLACK = 1 * MIB
#: Time for a fork to answer, seconds: it does at once, or after what else the host has to do.
FORK_PATIENCE = 30.0


class Limits:
    """Looks whether an attempt let its deadline or its log's limit pass: then the engine ends it.

    Args:
        files: the attempt's.
        clock: what time it is.
        slack: seconds that the guest has to enforce a timeout itself.
    """

    def __init__(self, files: AttemptFiles, clock: Clock, slack: float) -> None:
        self._files = files
        self._clock = clock
        self._slack = slack
        self.overdue = False
        self.flooded = False

    def passed(self, job: JobRecord) -> bool:
        """Look now."""
        if job.timeout is not None and job.started_at is not None:
            self.overdue = self._clock.now() > job.started_at + job.timeout + self._slack
        ceilings = {self._files.log: job.log_limit, self._files.outputs: job.outputs_limit if job.outputs else 0}
        self.flooded = any(_size(path) > ceiling + _SLACK for path, ceiling in ceilings.items())
        return self.overdue or self.flooded


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def boot_budget(most: float, attempt: Attempt, clock: Clock, *, fork: bool) -> float:
    """Return the seconds that a guest has left to answer, of at most `most` since its start."""
    if fork:
        return min(most, FORK_PATIENCE)
    since = attempt.vm_started_at
    spent = 0.0 if since is None else max(0.0, clock.now() - since)
    # An adopted guest gets some time to answer, however long nobody has listened.
    return max(min(most, 10.0), most - spent)
