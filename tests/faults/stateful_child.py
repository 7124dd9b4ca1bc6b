"""What the fault tests kill where jobs have a workspace, or a VM that stays.

`run KIND NAME TOKENS` accepts one job and waits for its script's end; `share NAME TOKENS WORKSPACE` accepts a job for
each line that it reads, and tells how each has ended; `stop` stops the VMs that stay; `recover` drives what is
left; `lead` does until the VM that stays has ended.
MAGPIE_CRASH_AT takes calls as well as fault points: `taken` kills right after that call has done its work.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from magpie_local import Magpie, config
from magpie_local.domain.states import EventKind
from magpie_local.guest.ssh.doors import SshDoors
from magpie_local.store.workspaces import SqliteWorkspaceUse
from magpie_local.testing import FakeHypervisor
from magpie_local.wiring import open_engine

if TYPE_CHECKING:
    from magpie_local.domain.ids import JobId
    from magpie_local.engine.context import Ports

#: What is durable of a workspace or a door, and what their VM is given.
CALLS: dict[str, tuple[type, str]] = {
    "made": (SqliteWorkspaceUse, "made"),
    "taken": (SqliteWorkspaceUse, "taken"),
    "mounted": (SqliteWorkspaceUse, "mounted"),
    "released": (SqliteWorkspaceUse, "released"),
    "keys": (SshDoors, "prepare"),
    "exposed": (FakeHypervisor, "expose"),
    "door": (SshDoors, "write"),
    "doorless": (SshDoors, "remove"),
}
WORKSPACE: dict[str, Any] = {"stateful": True, "workspace_id": "w"}
KINDS: dict[str, dict[str, Any]] = {
    "workspace": WORKSPACE,
    "persistent": {"persistent": True},
    "both": {"persistent": True, **WORKSPACE},
}
#: The token file proves how often the script was started (I3); what the workspace had is told in the log.
SCRIPT = """\
set -o noclobber
echo $$ > "$TOKENS/$JOB" || exit 99
echo begin
cat order 2>/dev/null
echo "$JOB" >> order
sleep 0.2
echo "the last line"
"""
#: One at a time, or it fails.
TURN = """\
mkdir turn || exit 98
echo begin
sleep "0.0$((RANDOM % 5))"
echo "$JOB" >> order
rmdir turn
echo "the last line"
"""


def tell(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def run(kind: str, name: str, tokens: str) -> None:
    with Magpie() as client:
        env = {"TOKENS": tokens, "JOB": name}
        job = client.jobs.create(name, SCRIPT, env=env, memory_mb=256, **KINDS[kind])
        tell("accepted", job.id)
        client.jobs.wait(job.id, timeout=60)


def share(name: str, workspace: str) -> None:
    with Magpie() as client:
        tell("ready")
        for number, _ in enumerate(sys.stdin):
            options: dict[str, Any] = {"memory_mb": 256, "stateful": True, "workspace_id": workspace}
            job = client.jobs.create(name, TURN, env={"JOB": f"{name}-{number}"}, **options)
            tell("accepted", job.id)
            tell("ended", client.jobs.wait(job.id, timeout=120).script_state)


async def lead() -> None:
    """Tell when the one VM is kept, and when it has gone."""
    async with open_engine(config.load()) as engine:
        await engine.open()
        async with asyncio.timeout(60):
            for word, kept in (("kept", True), ("left", False)):
                while any(job.is_kept for job, _ in await engine.ports.leader.unsettled()) is not kept:
                    await engine.bell.wait(engine.bell.listen(), 0.1)
                tell(word)
            while await engine.work_left():
                await engine.bell.wait(engine.bell.listen(), 0.1)
        await engine.close()


def stop() -> None:
    with Magpie() as client:
        for job in client.jobs.list(limit=100):
            if job.persistent:
                client.jobs.stop(job.id)


async def recover() -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(open_engine(config.load()))
        ports = engine.ports
        kept = [job.id for job, _ in await ports.leader.unsettled() if job.is_kept]
        before = await adoptions(ports, kept)
        await engine.open()
        async with asyncio.timeout(60):
            await engine.can_accept()
            while await engine.work_left() or any(
                one <= other for one, other in zip(await adoptions(ports, kept), before, strict=True)
            ):
                await engine.bell.wait(engine.bell.listen(), 0.1)
        await engine.close()


async def adoptions(ports: Ports, jobs: list[JobId]) -> list[int]:
    """Return how often each job's VM was adopted so far."""
    stories = [await ports.jobs.story(job_id) for job_id in jobs]
    return [sum(event.kind is EventKind.ADOPTED for event in story) for story in stories]


def arm(call: str) -> None:
    """Have this process killed when it has made a call."""
    owner, name = CALLS[call]
    method = getattr(owner, name)

    @functools.wraps(method)
    async def later(*args: Any, **kwargs: Any) -> None:
        await method(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(method)
    def now(*args: Any, **kwargs: Any) -> None:
        method(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, later if inspect.iscoroutinefunction(method) else now)


if __name__ == "__main__":
    if (point := os.environ.get("MAGPIE_CRASH_AT", "")) in CALLS:
        arm(point)
    match sys.argv[1:]:
        case ["run", kind, name, tokens]:
            run(kind, name, tokens)
        case ["share", name, workspace]:
            share(name, workspace)
        case ["stop"]:
            stop()
        case ["lead"]:
            asyncio.run(lead())
        case ["recover"]:
            asyncio.run(recover())
