"""What the fault tests kill: a process that uses the public API as a user's program would.

`submit N STYLE TOKENS` accepts N jobs, prints `accepted ID` for each as soon as it has the id, and waits for them;
`recover` drives what is left until nothing is. `warm TOKENS` has a template made and a pool filled, and runs a job on
a waiting fork (`warm-guest`: one that a real VM can run); `pooled TOKENS` the same with what is there.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

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


def tell_accepted(job_id: str) -> None:
    sys.stdout.write(f"accepted {job_id}\n")
    sys.stdout.flush()


def submit(count: int, style: str, tokens: str) -> None:
    with Magpie() as client:
        jobs = []
        for number in range(count):
            env = {"TOKENS": tokens, "JOB": f"{style}-{number}", "MARKER": MARKER}
            job = client.jobs.create(name=f"{style}-{number}", script=STYLES[style], env=env, memory_mb=256)
            tell_accepted(job.id)
            jobs.append(job)
        for job in jobs:
            client.jobs.wait(job.id, timeout=300)


def warm(tokens: str, style: str = "plain") -> None:
    with Magpie() as client:
        client.templates.warm("base", 1, 256, timeout=120)
        pooled(client, tokens, style)


def pooled(client: Magpie, tokens: str, style: str = "plain") -> None:
    give_up = time.monotonic() + 60
    while sum(client.monitoring.pool().waiting.values()) < 1:
        assert time.monotonic() < give_up, client.monitoring.pool()
        time.sleep(0.05)
    name = f"warm-{uuid.uuid4()}"
    env = {"TOKENS": tokens, "JOB": name, "MARKER": MARKER}
    job = client.jobs.create(name=name, script=STYLES[style], env=env, memory_mb=256)
    tell_accepted(job.id)
    client.jobs.wait(job.id, timeout=120)


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
        case ["warm", tokens]:
            warm(tokens)
        case ["warm-guest", tokens]:
            warm(tokens, "guest")
        case ["pooled", tokens]:
            with Magpie() as client:
                pooled(client, tokens)
        case ["recover"]:
            asyncio.run(recover())
