"""What the fault tests kill: a process that uses the public API as a user's program would.

`submit N STYLE TOKENS` accepts N jobs, prints `accepted ID` for each as soon as it has the id, and waits for them;
`recover` drives what is left until nothing is.
"""

from __future__ import annotations

import asyncio
import sys

from magpie_local import Magpie, config
from magpie_local.wiring import open_engine

MARKER = "the last line"
STYLES = {
    # The token file proves how often the script was started (I3): O_EXCL fails the second time.
    "plain": 'set -o noclobber; echo $$ > "$TOKENS/$JOB" || exit 99; echo begin; sleep 0.3; echo "$MARKER"',
    # In a real VM the files of a try are gone with it: the story and the log prove the number of starts.
    "guest": 'echo begin; sleep 1; echo "$MARKER"',
    "failing": 'set -o noclobber; echo $$ > "$TOKENS/$JOB" || exit 99; echo begin; sleep 0.1; exit 7',
}


def submit(count: int, style: str, tokens: str) -> None:
    with Magpie() as client:
        jobs = []
        for number in range(count):
            env = {"TOKENS": tokens, "JOB": f"{style}-{number}", "MARKER": MARKER}
            job = client.jobs.create(name=f"{style}-{number}", script=STYLES[style], env=env, memory_mb=256)
            jobs.append(job)
        for job in jobs:
            client.jobs.wait(job.id, timeout=300)


async def recover() -> None:
    async with open_engine(config.load()) as engine:
        await engine.open()
        async with asyncio.timeout(300):
            while await engine.work_left():
                await engine.bell.wait(engine.bell.listen(), 0.1)
        await engine.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["submit", count, style, tokens]:
            submit(int(count), style, tokens)
        case ["recover"]:
            asyncio.run(recover())
