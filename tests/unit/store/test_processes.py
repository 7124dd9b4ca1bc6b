"""Several processes on one state directory."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.spec import JobSpec
from magpie_local.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.layout import Layout
    from magpie_local.testing.clock import ManualClock

CLAIMER = """
import asyncio, sys
from pathlib import Path
from magpie_local.domain.layout import Layout
from magpie_local.errors import LeadershipLost
from magpie_local.ports.clock import SystemClock
from magpie_local.store import open_store

async def main():
    root = Path(sys.argv[1])
    async with open_store(Layout(root, root / "run"), SystemClock()) as store:
        await store.leader.lead()
        sys.stdin.readline()
        while queue := await store.leader.queue(5):
            for job in queue:
                try:
                    if claimed := await store.leader.claim(job.id, boot_id="boot"):
                        print(claimed[1].job_id, claimed[1].vm_id)
                except LeadershipLost:
                    await store.leader.lead()

asyncio.run(main())
"""
OPENER = """
import asyncio, sys
from pathlib import Path
from magpie_local.domain.layout import Layout
from magpie_local.ports.clock import SystemClock
from magpie_local.store import open_store

async def main():
    root = Path(sys.argv[1])
    sys.stdin.readline()
    async with open_store(Layout(root, root / "run"), SystemClock()) as store:
        print(store.state_id)

asyncio.run(main())
"""


async def together(code: str, root: Path, count: int) -> list[list[str]]:
    """Run `count` processes, let them go at one moment, return the lines of each."""
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(root), stdin=pipe, stdout=pipe, stderr=pipe
        )
        for _ in range(count)
    ]
    results = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [err.decode() for _, err in results] == [""] * count
    return [out.decode().splitlines() for out, _ in results]


async def test_processes_that_race_for_the_queue_claim_each_job_once(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock) as store:
        added = await store.jobs.add([(new_job_id(), JobSpec(name="job", script=b"true")) for _ in range(120)])
    claims = [line for lines in await together(CLAIMER, layout.root, 3) for line in lines]
    assert sorted(line.split()[0] for line in claims) == sorted(job.id for job in added)
    assert len({line.split()[1] for line in claims}) == len(added)


async def test_processes_that_open_a_new_folder_at_once_agree_on_one_database(layout: Layout) -> None:
    ids = {line for lines in await together(OPENER, layout.root, 4) for line in lines}
    assert len(ids) == 1
