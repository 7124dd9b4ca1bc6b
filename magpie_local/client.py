"""The blocking face (seed 000), thin: its verbs live in `api` and are shared with `AsyncMagpie`."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from magpie_local.api.forks import verify_forks
from magpie_local.api.handles import bound, bound_all
from magpie_local.api.monitoring import Monitoring
from magpie_local.api.networks import Networks
from magpie_local.api.options import with_job_options, with_veil
from magpie_local.api.outputs import JobOutputs
from magpie_local.api.runtime import Runtime, next_batch
from magpie_local.api.settings import client_settings
from magpie_local.errors import ClientClosed
from magpie_local.picture import PicturedWorkspaces, Picturing
from magpie_local.remote import Forward, JobFiles

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Unpack

    from magpie_local.api.models import (
        Confirmation,
        ExecResult,
        Job,
        LogChunk,
        SshInfo,
        TemplateInfo,
    )
    from magpie_local.api.options import JobOptions
    from magpie_local.config import Settings
    from magpie_local.domain.forkproof import ForkProof
    from magpie_local.domain.job import Event
    from magpie_local.domain.metrics import Sample


class Magpie:
    """A client of the Magpie on this machine.

    Use it as a context manager, or call close(), or just leave: unfinished jobs always go on.

    Args:
        api_key: ignored; taken so that cloud code runs unchanged.
        base_url: ignored, likewise.
        state_dir: where jobs are kept; otherwise MAGPIE_HOME or the user's state folder.
        settings: all settings at once (magpie_local.config.load).
        lead: whether this process may drive VMs; without it, it reads and leaves requests.

    Raises:
        StateError: the state directory can't be used.
    """

    def __init__(
        self, api_key: str | None = None, base_url: str | None = None, *,
        state_dir: str | Path | None = None, settings: Settings | None = None, lead: bool = True,
    ) -> None:  # fmt: skip
        del api_key, base_url
        self.settings = client_settings(settings, state_dir)
        runtime = Runtime.acquire(self.settings, lead=lead)
        self._release = weakref.finalize(self, runtime.release)
        self._release.atexit = False  # the runtime ends itself, before finalizers run
        self.jobs = Jobs(runtime)
        self.templates = Templates(runtime)
        self.workspaces = PicturedWorkspaces(runtime)
        self.networks = Networks(runtime)
        self.monitoring = Monitoring(runtime)

    def __repr__(self) -> str:
        return f"<Magpie {str(self.settings.home)!r}>"

    def __enter__(self) -> Magpie:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave; unfinished jobs go on, in the hands of a keeper. Closing twice is nothing."""
        self._release()

    def leader(self) -> str:
        """Return who drives the VMs of this state directory: this (process), other or none."""
        return self.jobs._runtime.role

    def verify_forks(self, n: int = 4, image: str = "base", vcpus: int = 1, memory_mb: int = 512) -> ForkProof:
        """Start `n` forks of one template and compare them: randomness, clock, names, keys, and the template itself.

        They are ordinary jobs, deleted afterwards. The template is made first where there is none.

        Raises:
            InvalidInput: a value is not allowed, or templates are off.
            TemplateFailed: there is no template to fork from.
            HostError: a fork's job did not run to its end.
        """
        runtime = self.jobs._runtime
        return runtime.call(verify_forks(runtime.jobs, runtime.templates, n, image, vcpus, memory_mb))


class Jobs(Picturing):
    """What one can do with jobs (seed 000)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.jobs

    @with_job_options
    def create(
        self, name: str, script: str | bytes, vcpus: int = 1, memory_mb: int = 512, **options: Unpack[JobOptions]
    ) -> Job:
        """Accept a job and return at once; it starts when there is room.

        Args:
            name: for people; need not be unique.
            script: run by bash, as root in a VM of its own, byte for byte.
            vcpus: virtual CPUs.
            memory_mb: the VM's memory, MiB.
            stateful: mount a disk that outlives the job at /workspace.
            workspace_id: which one: lower-case letters, digits and hyphens. The first job that names it makes it;
                None is one of the job's own id.
            workspace_size_gb: GiB, of a new workspace (10); one that exists keeps its size.
            base_workspace_id: the workspace whose content a new one begins with; that one is never changed by it.
            persistent: keep the VM after the script, until the job is stopped.
            idle_pause: seconds, or text like "10m", without a connection after which such a VM sleeps: it takes no
                memory until somebody wants it. None is never.
            ipv6_lease: name of an IPv6 address that the VM has on its network: the same one for the same name.
            network: "default" leads out to the internet and not to this machine, "none" nowhere; other names are of
                private networks between VMs (`networks`). None takes the setting, which is "default" at first.
            uploads: files and folders for the guest, before the script: by their path there (relative ones begin at
                the working directory) bytes, a path of this machine, or (bytes, mode); or a list of paths.
            outputs: patterns of files that are collected when the script has ended; see `outputs(job_id)`.
            outputs_limit: most bytes of them.
            env: environment of the script.
            secret_env: further entries of it that nobody but the script sees.
            timeout: seconds that the script may run; None is no limit.
            image: what the VM boots.
            description: free text.
            log_limit: bytes of output kept (head and tail); None takes the setting.
            isolation: "shared" lets the VM be a fork, which shares unchanged memory pages with others of its
                template; "private" has it boot afresh.

        Raises:
            InvalidInput: a value is not allowed; nothing was stored or started.
            ImageNotFound: the image is not built yet.
            WorkspaceNotFound: the base is not there.
            HostError: this machine can't run VMs; says why and how to mend it.
        """
        return bound(self._runtime.call(self._verbs.create(name, script, vcpus, memory_mb, **options)), self)

    @with_job_options
    def run_and_wait(
        self, name: str, script: str | bytes, vcpus: int = 1, memory_mb: int = 512, *, poll_interval: float = 5,
        **options: Unpack[JobOptions],
    ) -> Job:  # fmt: skip
        """Accept a job and return it when it has ended; the end is pushed, `poll_interval` costs no time."""
        ended = self._runtime.call(
            self._verbs.run_and_wait(name, script, vcpus, memory_mb, poll_interval=poll_interval, **options)
        )
        return bound(ended, self)

    def get(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            JobNotFound: there is none of that id.
        """
        return bound(self._runtime.call(self._verbs.get(job_id)), self)

    def get_status(self, job_id: str) -> str:
        """Return pending, running, completed, failed or stopped."""
        return (self.get(job_id)).status

    def get_logs(self, job_id: str, tail: int | None = None) -> str:
        """Return the output so far as text (both streams in order), or its last `tail` lines."""
        return self._runtime.call(self._verbs.text(job_id, tail))

    def ssh(self, job_id: str, timeout: float | None = 60) -> SshInfo:
        """Return how the VM of a persistent job is reached by SSH; waits up to `timeout` s for one on its way.

        Raises:
            JobNotFound: there is none of that id.
            InvalidInput: the job is not persistent.
            VmUnreachable: its VM is gone.
            WaitTimeout: it is not there in time.
        """
        return self._runtime.call(self._runtime.remote.ssh(job_id, timeout))

    @with_veil
    def exec(
        self, job_id: str, command: str | Sequence[str], *, timeout: float | None = None,
        env: Mapping[str, str] | None = None, secret_env: Mapping[str, str] | None = None, cwd: str | None = None,
        stdin: bytes | str | None = None, on_output: Callable[[str, bytes], None] | None = None,
    ) -> ExecResult:  # fmt: skip
        """Run a command in the VM of a persistent job, as user magpie (who may sudo); any number at once.

        Args:
            job_id: which job.
            command: text for the VM's shell, or a list that is run as it is.
            timeout: seconds until it is killed, with all that it has started.
            env: further environment.
            secret_env: likewise, of values that nobody may see.
            cwd: the folder to run it in.
            stdin: what it can read; nothing by default.
            on_output: told of each piece of output as it comes (stdout or stderr, the bytes), on another thread.

        Raises:
            InvalidInput: a value is not allowed, or the job is not persistent.
            VmUnreachable, WaitTimeout: it has no VM.
            SshError: the VM does not answer, or the connection broke.
        """
        return self._runtime.call(self._runtime.remote.exec(
            job_id, command, timeout=timeout, env=env, secret_env=secret_env, cwd=cwd, stdin=stdin,
            on_output=on_output,
        ))  # fmt: skip

    def forward(
        self, job_id: str, guest_port: int, local_port: int = 0, local_host: str = "127.0.0.1",
        guest_host: str = "127.0.0.1",
    ) -> Forward:  # fmt: skip
        """Make a TCP port of the VM reachable here, for as long as the result is not closed.

        Args:
            job_id: a persistent job.
            guest_port: what the service in the VM listens on.
            local_port: 0 takes a free one.
            local_host: this machine's loopback, unless another address is named.
            guest_host: the address that the service listens on: the VM's own loopback, or its `ipv6_lease`, say.
        """
        opening = self._runtime.remote.forward(job_id, guest_port, local_port, local_host, guest_host)
        return Forward(self._runtime, opening)

    def files(self, job_id: str) -> JobFiles:
        """Return the files of a persistent job's VM."""
        return JobFiles(self._runtime, job_id)

    def outputs(self, job_id: str) -> JobOutputs:
        """Return the files that were collected of a job (`outputs=` on create)."""
        return JobOutputs(self._runtime, job_id)

    def stream_logs(self, job_id: str, *, follow: bool = True) -> Iterator[LogChunk]:
        """Yield the output: what there is, then what comes, until the script's end. Any number may read at once."""
        batches = self._verbs.follow(job_id, follow=follow)
        try:
            while batch := self._runtime.call(next_batch(batches)):
                yield from batch
        finally:
            self._runtime.call(batches.aclose())

    def metrics(self, job_id: str) -> tuple[Sample, ...]:
        """Return what the job's VM takes of this machine: a sample of now, after those this process has taken before.

        A job without a VM has only the latter. At most the last 300 are kept; see `Sample` for what they tell.

        Raises:
            JobNotFound: there is none of that id.
        """
        return self._runtime.call(self._runtime.metrics.samples(job_id))

    def stream_metrics(self, job_id: str, interval: float = 1.0) -> Generator[Sample, None, None]:
        """Yield a new sample every `interval` seconds (0.1 to 3600) until the job's VM is gone.

        Waits for a VM that is still to come. Costs the job nothing, and nobody anything while nobody follows.

        Raises:
            JobNotFound: there is none of that id.
            InvalidInput: the interval is not allowed.
        """
        samples = self._runtime.metrics.follow(job_id, interval)
        try:
            while batch := self._runtime.call(next_batch(samples)):
                yield from batch
        finally:
            with suppress(ClientClosed):  # who leaves first, the client or its stream, is all the same
                self._runtime.call(samples.aclose())

    def list(
        self, limit: int = 100, offset: int = 0, status: str | None = None, before: str | None = None
    ) -> builtins.list[Job]:
        """Return jobs, newest first.

        Args:
            limit: how many at most, 1 to 1000.
            offset: how many to pass over; for deep pages `before` costs less.
            status: only those of this status.
            before: only those older than the job of this id.
        """
        return bound_all(self._runtime.call(self._verbs.page(limit, offset, status, before)), self)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Return the job when it has ended.

        Raises:
            WaitTimeout: it has not within `timeout` seconds; it goes on.
        """
        return bound(self._runtime.call(self._verbs.wait(job_id, timeout)), self)

    def stop(self, job_id: str) -> Confirmation:
        """Stop a job (SIGTERM, a grace period, then the VM's end), and return when it has stopped."""
        return self._runtime.call(self._verbs.stop(job_id))

    def request_stop(self, job_id: str) -> Confirmation:
        """Ask for a stop and return at once; the request outlives this process."""
        return self._runtime.call(self._verbs.request_stop(job_id))

    def sleep(self, job_id: str) -> Job:
        """Put the VM of a persistent job to sleep: it takes no memory until somebody wants it. Connections end.

        Raises:
            JobNotFound: there is none of that id.
            InvalidInput: the job is not persistent.
            JobActive: its script has not ended.
            VmUnreachable: its VM is gone.
            HostError: it could not be done, for want of disk space, say; the VM goes on.
        """
        return bound(self._runtime.call(self._verbs.sleep(job_id)), self)

    def wake(self, job_id: str) -> Job:
        """Wake the VM of a persistent job, and return when it runs. Whoever connects to it does the same.

        Raises:
            JobNotFound, InvalidInput, JobActive: as of `sleep`.
            VmUnreachable: it is gone, or can't be woken any more; says why.
            WaitTimeout: it waits for memory, and goes on waiting.
        """
        return bound(self._runtime.call(self._verbs.wake(job_id)), self)

    def interrupt(self, job_id: str) -> Confirmation:
        """Have SIGINT sent to a running script, as Ctrl-C does in a terminal; returns at once.

        What comes of it is the script's choice: without a trap it ends, and the job has failed with exit code 130. A
        job whose script has not started is stopped.
        """
        return self._runtime.call(self._verbs.interrupt(job_id))

    def delete(self, job_id: str, *, force: bool = False) -> Confirmation:
        """Delete a job and its logs.

        Raises:
            JobActive: it has not ended, and `force` (which stops it first) was not given.
        """
        return self._runtime.call(self._verbs.delete(job_id, force=force))

    def story(self, job_id: str) -> builtins.list[Event]:
        """Return what happened to a job, oldest first."""
        return self._runtime.call(self._verbs.story(job_id))


class Templates:
    """What one can do with templates: frozen VMs of which jobs' VMs are forks (docs/warm-starts.md)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._verbs = runtime.templates

    def list(self) -> builtins.list[TemplateInfo]:
        """Return all templates, most recently used first."""
        return self._runtime.call(self._verbs.list())

    def remove(self, key: str) -> Confirmation:
        """Remove a template; jobs whose VMs are forks of it go on.

        Args:
            key: its key, or a beginning of at least four characters that only it has.

        Raises:
            TemplateNotFound: there is none.
        """
        return self._runtime.call(self._verbs.remove(key))

    def warm(
        self, image: str = "base", vcpus: int = 1, memory_mb: int = 512, timeout: float | None = None
    ) -> TemplateInfo:
        """Return the template of a shape; where there is none it is made first, which takes longer than a boot.

        Raises:
            InvalidInput: a value is not allowed, or templates are off.
            ImageNotFound: the image is not built yet.
            TemplateFailed: it could not be made; says why.
            WaitTimeout: it is not there within `timeout` seconds; the work goes on.
        """
        return self._runtime.call(self._verbs.warm(image, vcpus, memory_mb, timeout))
