"""What one can do within the VM of a persistent job, as coroutines on the engine's loop."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from magpie_local.api.checks import check_seconds
from magpie_local.api.masked import MaskedOutput
from magpie_local.api.models import ExecResult, SshInfo
from magpie_local.domain.ids import parse_job_id
from magpie_local.domain.secret import Secrets, beside
from magpie_local.domain.states import VmState, Wish
from magpie_local.errors import InvalidInput, JobNotFound, VmUnreachable, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from magpie_local.api.shells import ShellCache
    from magpie_local.domain.ids import JobId
    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.engine import Engine
    from magpie_local.ports.doors import Door
    from magpie_local.ports.shell import Shell, ShellFiles

#: A waiter looks by itself this often, should a ring be lost, seconds.
_LOOK = 0.5
#: Seconds for which a job that is on its way is waited for, where no other time is given.
PATIENCE = 60.0


class RemoteService:
    """The verbs.

    Args:
        engine: the engine of this process.
        shells: connections to VMs.
        summon: called after something was asked for; sees to it that somebody carries it out.
    """

    def __init__(self, engine: Engine, shells: ShellCache, summon: Callable[[], None]) -> None:
        self._engine = engine
        self._summon = summon
        self._shells = shells

    async def ssh(self, job_id: str, timeout: float | None = PATIENCE) -> SshInfo:
        """Return how the VM is reached by SSH; waits for one that is on its way, and wakes one that sleeps.

        Raises:
            JobNotFound, VmUnreachable, WaitTimeout.
        """
        _, door = await self._door(parse_job_id(job_id), timeout)
        target = door.target
        return SshInfo(
            host=target.host, port=target.port, username=target.username, command=door.command, alias=door.alias,
            config=str(door.config), key=str(target.folder / "key"), host_key=target.host_key,
        )  # fmt: skip

    async def exec(
        self, job_id: str, command: str | Sequence[str], *, timeout: float | None = None,
        env: Mapping[str, str] | None = None, secret_env: Mapping[str, str] | None = None, cwd: str | None = None,
        stdin: bytes | str | None = None, **more: Any,
    ) -> ExecResult:  # fmt: skip
        """Run a command in the VM, as user magpie; what it prints of `secret_env` is masked.

        Raises:
            InvalidInput: a value is not allowed.
            JobNotFound, VmUnreachable, WaitTimeout: there is no VM to run it in.
            SshError: the VM can't be reached, or the connection broke.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        secrets = Secrets({} if secret_env is None else secret_env)
        whole = beside(env or {}, secrets)
        masked = MaskedOutput(secrets.values(), more.get("on_output")) if secrets else None
        if masked is not None:
            more |= {"on_output": masked, "limit": 0}
        shell = await self.shell(job_id)
        given = stdin.encode() if isinstance(stdin, str) else stdin
        result = await shell.run(command, env=whole, cwd=cwd, stdin=given, timeout=timeout, **more)
        if masked is not None:
            result = masked.result(result)
        return ExecResult(
            exit_code=result.exit_code, signal=result.signal, stdout=result.stdout.decode(errors="replace"),
            stderr=result.stderr.decode(errors="replace"), duration=result.duration, timed_out=result.timed_out,
            truncated=result.truncated, stdout_bytes=result.stdout, stderr_bytes=result.stderr,
        )  # fmt: skip

    async def shell(self, job_id: str) -> Shell:
        """Return a connection to the VM, which others share."""
        return await self._shells.get(*await self._door(parse_job_id(job_id), PATIENCE))

    async def files(self, job_id: str) -> ShellFiles:
        """Return the VM's files."""
        return (await self.shell(job_id)).files

    @asynccontextmanager
    async def forward(
        self, job_id: str, guest_port: int, local_port: int = 0, local_host: str = "127.0.0.1",
        guest_host: str = "127.0.0.1",
    ) -> AsyncIterator[tuple[str, int]]:  # fmt: skip
        """Make a port of the VM reachable here, as long as the context is open; gives (host, port)."""
        shell = await self.shell(job_id)
        async with shell.forward(
            guest_port, guest_host=guest_host, local_port=local_port, local_host=local_host
        ) as bound:  # fmt: skip
            yield bound

    async def _door(self, job_id: JobId, timeout: float | None) -> tuple[JobRecord, Door]:
        """Return a job and its door as soon as that is there, and leads to a VM that is awake.

        Raises:
            JobNotFound: there is no such job.
            VmUnreachable: it has no VM that stays, or none any more.
            WaitTimeout: it is not there in time.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        clock = self._engine.ports.clock
        give_up = math.inf if timeout is None else clock.monotonic() + timeout
        asked = False
        while True:
            ring = self._engine.bell.listen()
            record = await self._engine.ports.jobs.get(job_id)
            if record is None:
                raise JobNotFound(f"There is no job {job_id}.")
            if not record.persistent:
                raise InvalidInput("job_id", job_id, "its VM ends with its script; create it with persistent=True")
            door = await asyncio.to_thread(self._engine.ports.doors.find, job_id)
            # One that comes back has a doorbell at its port until the wish is granted.
            sleeps = record.vm_state is VmState.ASLEEP or record.wish is Wish.WAKE
            if door is not None and record.vm_state.is_alive and not sleeps:
                return record, door
            if not record.needs_vm:
                raise VmUnreachable(f"The VM of job {job_id} is gone.")
            if sleeps and not asked:
                # Its doorbell would do the same, but may have ended with the host.
                await self._engine.ports.wishes.ask_vm(job_id, Wish.WAKE)
                self._engine.bell.ring()
                self._summon()
                asked = True
            left = give_up - clock.monotonic()
            if left <= 0:
                raise WaitTimeout(f"The VM of job {job_id} is not reachable within {timeout} s; it goes on.")
            await self._engine.bell.wait(ring, min(_LOOK, left))
