"""`./dev demo`: the first example of the jobs API, for real, and where its time went."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from magpie_local.cli import output, render
from magpie_local.cli.main import report
from magpie_local.cli.session import Session
from magpie_local.domain.sizes import MIB, format_seconds
from magpie_local.domain.states import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from magpie_local import Job, Magpie
    from magpie_local.domain.job import Event

_SCRIPT = """\
cat > process_data.py <<'PYTHON'
import platform
import statistics

print(f"Python {platform.python_version()} on {platform.machine()}, kernel {platform.release()}")
data = [number * number % 97 for number in range(10_000)]
print(f"processed {len(data)} values, mean {statistics.mean(data):.2f}")
PYTHON
python process_data.py
"""

#: The event that ends a stage, and what the stage is.
_STAGES = {
    EventKind.CLAIMED: "waits for its turn",
    EventKind.VM_BOOTING: "VM is started",
    EventKind.VM_READY: "guest boots until its agent answers",
    EventKind.STARTED: "script is handed over",
    EventKind.EXITED: "script runs",
    EventKind.VM_GONE: "VM is taken down",
}


def main() -> None:
    """Run the demonstration and exit with the job's exit code."""
    session = Session()
    try:
        with session.client(lead=True) as client:
            code = _demonstrate(session, client)
    except Exception as error:  # the edge, as in main
        code = report(session, error)
    except KeyboardInterrupt:
        code = render.INTERRUPTED
    sys.exit(code)


def stages(story: Sequence[Event]) -> Iterator[tuple[str, float]]:
    """Yield what happened to a job and the seconds that it took, in order."""
    before = story[0].time if story else 0.0
    for event in story:
        if event.kind in _STAGES:
            yield _STAGES[event.kind], event.time - before
            before = event.time


def _demonstrate(session: Session, client: Magpie) -> int:
    settings = client.settings
    job = client.jobs.create(
        name="data-processor",
        script=_SCRIPT,
        vcpus=min(4, settings.cpus),
        memory_mb=min(2048, settings.memory // MIB),
    )
    session.narrate(render.start_line(job))
    for chunk in client.jobs.stream_logs(job.id):
        output.write(chunk)
    job = client.jobs.wait(job.id)
    click.echo(f"\n{_summary(job, client.jobs.story(job.id))}")
    code = render.exit_status(job)
    return render.OURS if code is None else code


def _summary(job: Job, story: Sequence[Event]) -> str:
    rows = [("status", job.status), ("exit code", str(job.exit_code)), ("accelerator", str(job.accelerator))]
    rows += [(name, format_seconds(seconds)) for name, seconds in stages(story)]
    return render.table((), rows)


if __name__ == "__main__":
    main()
