"""What is known of a job at one moment: all that a view shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magpie_local.api.models import Job
    from magpie_local.view.logtail import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A job, the end of its output, and how it fares."""

    job: Job
    #: Seconds since the job began, or since it began to wait; a job that ended tells its own time.
    elapsed: float | None = None
    #: The last lines of output, the oldest first, and how many earlier ones are left out.
    lines: tuple[Line, ...] = ()
    dropped: int = 0
    #: Fraction of one core, a sample after another.
    cpu: tuple[float, ...] = ()
    #: Bytes, a sample after another.
    memory: tuple[int, ...] = ()
    #: The command that opens a shell in the job's VM.
    ssh: str | None = None
    #: A sentence to the user: what to press, what goes on.
    note: str | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds to show: of the whole run where it has ended."""
        return self.job.duration if self.job.is_final else self.elapsed
