"""A process with an engine of its own, as a notebook or a command has: `child.py COUNT TOKENS`.

It says `ready`, waits for a line, submits COUNT jobs, and drives or follows until nothing is left.
"""

from __future__ import annotations

import asyncio
import sys

from magpie_local import config
from magpie_local.domain.ids import new_job_id
from magpie_local.domain.spec import JobSpec
from magpie_local.wiring import open_engine

#: Fails where the same job was started before.
ONCE = 'set -o noclobber; echo > "$TOKEN"'


async def main(count: int, tokens: str) -> None:
    async with open_engine(config.load()) as engine:
        await engine.open()
        await engine.can_accept()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(count):
            job_id = new_job_id()
            spec = JobSpec(name="once", script=ONCE.encode(), env={"TOKEN": f"{tokens}/{job_id}"}, memory_mb=64)
            await engine.ports.jobs.add([(job_id, spec)])
            engine.bell.ring()
        while await engine.work_left():
            await engine.bell.wait(engine.bell.listen(), 0.2)
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
