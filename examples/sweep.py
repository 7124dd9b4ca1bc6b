"""A sweep over parameters: many jobs at once, each in a VM of its own, with `await`.

As many run at a time as the machine has room for; the others wait their turn.

    python examples/sweep.py
"""

from __future__ import annotations

import asyncio

from magpie_local import AsyncMagpie

SCRIPT = "python3 -c 'import math, os; x = float(os.environ[\"X\"]); print(math.sin(x) * x)'"


async def value_at(client: AsyncMagpie, x: float) -> float:
    """Return what one job of the sweep has printed."""
    job = await client.jobs.run_and_wait(name=f"x={x}", script=SCRIPT, env={"X": str(x)})
    if not job.success:
        raise SystemExit(f"{job}: {job.message or await client.jobs.get_logs(job.id)}")
    return float(await client.jobs.get_logs(job.id))


async def main() -> None:
    """Run the sweep and print its best value."""
    points = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    async with AsyncMagpie() as client:
        values = await asyncio.gather(*(value_at(client, x) for x in points))
    for x, value in zip(points, values, strict=True):
        print(f"{x:4} {value:7.4f}")
    print("best:", points[values.index(max(values))])


asyncio.run(main())
