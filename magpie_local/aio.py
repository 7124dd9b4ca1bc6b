"""The asyncio face: the same verbs as `Magpie`, awaited. The engine never runs on the caller's loop."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from magpie_local.api.forks import verify_forks
from magpie_local.api.handles import bound, bound_all
from magpie_local.api.networks import AsyncNetworks
from magpie_local.api.options import with_job_options, with_veil
from magpie_local.api.outputs import AsyncJobOutputs
from magpie_local.api.runtime import Runtime, next_batch
from magpie_local.api.settings import client_settings
from magpie_local.errors import ClientClosed
from magpie_local.picture import PicturedAsyncWorkspaces, Picturing
from magpie_local.remote import AsyncJobFiles, leave

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Unpack

    from magpie_local.api.metrics import JobUsage
    from magpie_local.api.models import (
        Confirmation,
        EngineStatus,
        ExecResult,
        Job,
        LogChunk,
        PoolStatus,
        SshInfo,
        TemplateInfo,
    )
    from magpie_local.api.options import JobOptions
    from magpie_local.config import Settings
    from magpie_local.domain.forkproof import ForkProof
    from magpie_local.domain.job import Event
    from magpie_local.domain.metrics import Sample


class AsyncMagpie:
    """A client of the Magpie on this machine; parameters and errors as in `Magpie`."""

    def __init__(
        self, api_key: str | None = None, base_url: str | None = None, *,
        state_dir: str | Path | None = None, settings: Settings | None = None, lead: bool = True,
    ) -> None:  # fmt: skip
        del api_key, base_url
        self.settings = client_settings(settings, state_dir)
        runtime = Runtime.acquire(self.settings, lead=lead)
        self._release = weakref.finalize(self, runtime.release)
        self._release.atexit = False  # the runtime ends itself, before finalizers run
        self.jobs = AsyncJobs(runtime)
        self.templates = AsyncTemplates(runtime)
        self.workspaces = PicturedAsyncWorkspaces(runtime)
        self.networks = AsyncNetworks(runtime)
        self.monitoring = AsyncMonitoring(runtime)

    def __repr__(self) -> str:
        return f"<AsyncMagpie {str(self.settings.home)!r}>"

    async def __aenter__(self) -> AsyncMagpie:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave; unfinished jobs go on, in the hands of a keeper. Closing twice is nothing."""
        await asyncio.to_thread(self._release)

    def leader(self) -> str:
        """Return who drives the VMs of this state directory: this (process), other or none."""
        return self.jobs._runtime.role

    async def verify_forks(self, n: int = 4, image: str = "base", vcpus: int = 1, memory_mb: int = 512) -> ForkProof:
        """Start `n` forks of one template and compare them: randomness, clock, names, keys, and the template itself.

        They are ordinary jobs, deleted afterwards. The template is made first where there is none.

        Raises:
            InvalidInput: a value is not allowed, or templates are off.
            TemplateFailed: there is no template to fork from.
            HostError: a fork's job did not run to its end.
        """
        runtime = self.jobs._runtime
        return await runtime.await_call(verify_forks(runtime.jobs, runtime.templates, n, image, vcpus, memory_mb))


class AsyncJobs(Picturing):
    """What one can do with jobs (seed 000)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.jobs

    @with_job_options
    async def create(
        self, name: str, script: str | bytes, vcpus: int = 1, memory_mb: int = 512, **options: Unpack[JobOptions]
    ) -> Job:
        """Accept a job and return at once; parameters and errors as in `Jobs.create`."""
        return bound(
            await self._runtime.await_call(self._verbs.create(name, script, vcpus, memory_mb, **options)), self
        )

    @with_job_options
    async def run_and_wait(
        self, name: str, script: str | bytes, vcpus: int = 1, memory_mb: int = 512, *, poll_interval: float = 5,
        **options: Unpack[JobOptions],
    ) -> Job:  # fmt: skip
        """Accept a job and return it when it has ended; the end is pushed, `poll_interval` costs no time."""
        ended = await self._runtime.await_call(
            self._verbs.run_and_wait(name, script, vcpus, memory_mb, poll_interval=poll_interval, **options)
        )
        return bound(ended, self)

    async def get(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            JobNotFound: there is none of that id.
        """
        return bound(await self._runtime.await_call(self._verbs.get(job_id)), self)

    async def get_status(self, job_id: str) -> str:
        """Return pending, running, completed, failed or stopped."""
        return (await self.get(job_id)).status

    async def ssh(self, job_id: str, timeout: float | None = 60) -> SshInfo:
        """Return how the VM of a persistent job is reached by SSH; waits up to `timeout` s for one on its way."""
        return await self._runtime.await_call(self._runtime.remote.ssh(job_id, timeout))

    @with_veil
    async def exec(
        self, job_id: str, command: str | Sequence[str], *, timeout: float | None = None,
        env: Mapping[str, str] | None = None, secret_env: Mapping[str, str] | None = None, cwd: str | None = None,
        stdin: bytes | str | None = None, on_output: Callable[[str, bytes], None] | None = None,
    ) -> ExecResult:  # fmt: skip
        """Run a command in the VM of a persistent job; parameters and errors as in `Jobs.exec`."""
        return await self._runtime.await_call(self._runtime.remote.exec(
            job_id, command, timeout=timeout, env=env, secret_env=secret_env, cwd=cwd, stdin=stdin,
            on_output=on_output,
        ))  # fmt: skip

    @asynccontextmanager
    async def forward(
        self, job_id: str, guest_port: int, local_port: int = 0, local_host: str = "127.0.0.1",
        guest_host: str = "127.0.0.1",
    ) -> AsyncIterator[tuple[str, int]]:  # fmt: skip
        """Make a TCP port of the VM reachable here while the context is open; gives (host, port)."""
        opening = self._runtime.remote.forward(job_id, guest_port, local_port, local_host, guest_host)
        bound = await self._runtime.await_call(opening.__aenter__())
        try:
            yield bound
        finally:
            await self._runtime.await_call(leave(opening))

    def files(self, job_id: str) -> AsyncJobFiles:
        """Return the files of a persistent job's VM."""
        return AsyncJobFiles(self._runtime, job_id)

    def outputs(self, job_id: str) -> AsyncJobOutputs:
        """Return the files that were collected of a job (`outputs=` on create)."""
        return AsyncJobOutputs(self._runtime, job_id)

    async def get_logs(self, job_id: str, tail: int | None = None) -> str:
        """Return the output so far as text (both streams in order), or its last `tail` lines."""
        return await self._runtime.await_call(self._verbs.text(job_id, tail))

    async def stream_logs(self, job_id: str, *, follow: bool = True) -> AsyncIterator[LogChunk]:
        """Yield the output: what there is, then what comes, until the script's end. Any number may read at once."""
        batches = self._verbs.follow(job_id, follow=follow)
        try:
            while batch := await self._runtime.await_call(next_batch(batches)):
                for chunk in batch:
                    yield chunk
        finally:
            await self._runtime.await_call(batches.aclose())

    async def metrics(self, job_id: str) -> tuple[Sample, ...]:
        """Return what the job's VM takes of this machine: a sample of now, after those this process has taken before.

        A job without a VM has only the latter. At most the last 300 are kept; see `Sample` for what they tell.

        Raises:
            JobNotFound: there is none of that id.
        """
        return await self._runtime.await_call(self._runtime.metrics.samples(job_id))

    async def stream_metrics(self, job_id: str, interval: float = 1.0) -> AsyncGenerator[Sample, None]:
        """Yield a new sample every `interval` seconds (0.1 to 3600) until the job's VM is gone.

        Waits for a VM that is still to come; errors as in `Jobs.stream_metrics`.
        """
        samples = self._runtime.metrics.follow(job_id, interval)
        try:
            while batch := await self._runtime.await_call(next_batch(samples)):
                for sample in batch:
                    yield sample
        finally:
            with suppress(ClientClosed):  # who leaves first, the client or its stream, is all the same
                await self._runtime.await_call(samples.aclose())

    async def list(
        self, limit: int = 100, offset: int = 0, status: str | None = None, before: str | None = None
    ) -> builtins.list[Job]:
        """Return jobs, newest first.

        Args:
            limit: how many at most, 1 to 1000.
            offset: how many to pass over; for deep pages `before` costs less.
            status: only those of this status.
            before: only those older than the job of this id.
        """
        return bound_all(await self._runtime.await_call(self._verbs.page(limit, offset, status, before)), self)

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Return the job when it has ended.

        Raises:
            WaitTimeout: it has not within `timeout` seconds; it goes on.
        """
        return bound(await self._runtime.await_call(self._verbs.wait(job_id, timeout)), self)

    async def stop(self, job_id: str) -> Confirmation:
        """Stop a job (SIGTERM, a grace period, then the VM's end), and return when it has stopped."""
        return await self._runtime.await_call(self._verbs.stop(job_id))

    async def request_stop(self, job_id: str) -> Confirmation:
        """Ask for a stop and return at once; the request outlives this process."""
        return await self._runtime.await_call(self._verbs.request_stop(job_id))

    async def sleep(self, job_id: str) -> Job:
        """Put the VM of a persistent job to sleep: it takes no memory until somebody wants it. Connections end.

        Raises:
            JobNotFound: there is none of that id.
            InvalidInput: the job is not persistent.
            JobActive: its script has not ended.
            VmUnreachable: its VM is gone.
            HostError: it could not be done, for want of disk space, say; the VM goes on.
        """
        return bound(await self._runtime.await_call(self._verbs.sleep(job_id)), self)

    async def wake(self, job_id: str) -> Job:
        """Wake the VM of a persistent job, and return when it runs. Whoever connects to it does the same.

        Raises:
            JobNotFound, InvalidInput, JobActive: as of `sleep`.
            VmUnreachable: it is gone, or can't be woken any more; says why.
            WaitTimeout: it waits for memory, and goes on waiting.
        """
        return bound(await self._runtime.await_call(self._verbs.wake(job_id)), self)

    async def interrupt(self, job_id: str) -> Confirmation:
        """Have SIGINT sent to a running script, as Ctrl-C does in a terminal; returns at once.

        What comes of it is the script's choice: without a trap it ends, and the job has failed with exit code 130. A
        job whose script has not started is stopped.
        """
        return await self._runtime.await_call(self._verbs.interrupt(job_id))

    async def delete(self, job_id: str, *, force: bool = False) -> Confirmation:
        """Delete a job and its logs.

        Raises:
            JobActive: it has not ended, and `force` (which stops it first) was not given.
        """
        return await self._runtime.await_call(self._verbs.delete(job_id, force=force))

    async def story(self, job_id: str) -> builtins.list[Event]:
        """Return what happened to a job, oldest first."""
        return await self._runtime.await_call(self._verbs.story(job_id))


class AsyncTemplates:
    """What one can do with templates: frozen VMs of which jobs' VMs are forks (docs/warm-starts.md)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.templates

    async def list(self) -> builtins.list[TemplateInfo]:
        """Return all templates, most recently used first."""
        return await self._runtime.await_call(self._verbs.list())

    async def remove(self, key: str) -> Confirmation:
        """Remove a template; jobs whose VMs are forks of it go on.

        Args:
            key: its key, or a beginning of at least four characters that only it has.

        Raises:
            TemplateNotFound: there is none.
        """
        return await self._runtime.await_call(self._verbs.remove(key))

    async def warm(
        self, image: str = "base", vcpus: int = 1, memory_mb: int = 512, timeout: float | None = None
    ) -> TemplateInfo:
        """Return the template of a shape; where there is none it is made first, which takes longer than a boot.

        Raises:
            InvalidInput: a value is not allowed, or templates are off.
            ImageNotFound: the image is not built yet.
            TemplateFailed: it could not be made; says why.
            WaitTimeout: it is not there within `timeout` seconds; the work goes on.
        """
        return await self._runtime.await_call(self._verbs.warm(image, vcpus, memory_mb, timeout))


class AsyncMonitoring:
    """What goes on."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.monitoring

    async def pool(self) -> PoolStatus:
        """Return the forks that wait for a job, as the process that leads last told of them."""
        return await self._runtime.await_call(self._verbs.pool())

    async def engine(self) -> EngineStatus:
        """Return who leads, how many jobs there are to do, the pool and the templates."""
        return await self._runtime.await_call(self._verbs.engine())

    async def usage(self, job_ids: Sequence[str] | None = None) -> list[JobUsage]:
        """Return these jobs, or all that have a VM, each with a new sample of what its VM takes of this machine."""
        return await self._runtime.await_call(self._runtime.metrics.usage(job_ids))
