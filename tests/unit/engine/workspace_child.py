"""A process that does one thing with a workspace: `workspace_child.py VERB ARGUMENT...`; prints how that ended."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from magpie_local import config
from magpie_local.engine.workspaces import Workspaces
from magpie_local.errors import MagpieError
from magpie_local.wiring import open_engine


async def main(verb: str, *arguments: str) -> None:
    async with open_engine(config.load()) as engine:
        if verb == "prepare":
            await engine.ports.leader.lead()
        workspaces = Workspaces(engine.ports)
        values = [int(one) if one.isdigit() else Path(one) if "/" in one else one for one in arguments]
        try:
            await getattr(workspaces, verb)(*values)
        except MagpieError as error:
            sys.stdout.write(type(error).__name__)
        else:
            sys.stdout.write("done")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
