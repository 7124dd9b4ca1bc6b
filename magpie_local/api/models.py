"""What the API returns: frozen snapshots of the moment they were read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from magpie_local.api.handles import JobHandle
from magpie_local.domain.job import status_of
from magpie_local.domain.sizes import MIB, format_bytes, format_seconds
from magpie_local.domain.states import ScriptState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.warm.shelf import Shelved


_FINAL = frozenset(state.value for state in ScriptState if state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Job(JobHandle):
    """A job as it was when it was read (seed 000). Ask the client again for news, or its own verbs, which do."""

    id: str
    #: The same as `id`: seed 002's name for it.
    request_id: str
    name: str
    #: pending, running, completed, failed or stopped (seed 000's five words).
    status: str
    #: The script axis: queued, starting, running, succeeded, failed, timed_out, stopped, cancelled or lost.
    script_state: str
    #: The VM axis: none, booting, ready, paused, asleep, stopping or gone.
    vm_state: str
    vcpus: int
    memory_mb: int
    image: str
    #: Seconds, or None for no limit.
    timeout: float | None
    description: str
    #: How many attempts there were.
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: The script's own, exactly; 128+n after signal n, 124 after a timeout; None while unknown.
    exit_code: int | None
    #: Why it ended otherwise than by its script (a word), and the same in a sentence.
    reason: str | None
    message: str | None
    #: kvm or tcg; only kvm is a security boundary.
    accelerator: str | None
    #: How its VM came to be: cold (it booted), fork (of a template) or pool (a fork that waited); None before that.
    start: str | None
    #: shared: its VM may share unchanged memory pages with others; private: it boots afresh.
    isolation: str
    #: Why it is pending, where the scheduler holds it back.
    waiting: str | None
    stateful: bool
    #: The workspace that is mounted at /workspace; None for a job without.
    workspace_id: str | None
    persistent: bool
    #: Seconds without a connection after which its VM sleeps; None: never.
    idle_pause: float | None
    #: default, none, or a named network; and the VM's addresses there.
    network: str
    ipv6_lease: str | None
    address: str | None
    address6: str | None
    env: Mapping[str, str] = field(repr=False)
    #: Names of further entries of the environment, whose values nobody sees.
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        ended = "" if self.exit_code is None else f" exit {self.exit_code}"
        lasted = "" if self.duration is None else f" {format_seconds(self.duration)}"
        return f"<Job {self.id[:8]} {self.name!r} {self.status}{ended}{lasted}>"

    @property
    def is_final(self) -> bool:
        """Whether the script's state never changes again."""
        return self.script_state in _FINAL

    @property
    def success(self) -> bool:
        """Whether the script exited with 0."""
        return self.script_state == "succeeded"

    @property
    def duration(self) -> float | None:
        """Seconds that the script ran; None before its end, or when it never ran."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    def to_json(self) -> dict[str, object]:
        """Return plain values; of the environment only the names, which is all that a listing should show."""
        times = {"created_at": self.created_at, "started_at": self.started_at, "finished_at": self.finished_at}
        plain = (
            "id", "request_id", "name", "status", "script_state", "vm_state", "vcpus", "memory_mb", "image", "timeout",
            "description", "attempt", "exit_code", "reason", "message", "accelerator", "start", "isolation",
            "waiting", "stateful", "workspace_id", "persistent", "idle_pause", "network", "ipv6_lease", "address",
            "address6",
        )  # fmt: skip
        return (
            {name: getattr(self, name) for name in plain}
            | {name: time and time.isoformat() for name, time in times.items()}
            | {"duration": self.duration, "env": sorted(self.env), "secrets": sorted(self.secrets)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The answer to stop and delete."""

    id: str
    #: The job's status after it, or `deleted`.
    status: str
    #: What it is about: job or template.
    kind: str = "job"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}: {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshInfo:
    """How the VM of a persistent job is reached by SSH (seed 000)."""

    host: str
    port: int
    username: str
    #: A line that works when pasted into a terminal.
    command: str
    #: `scp -F CONFIG file ALIAS:`, `rsync -e "ssh -F CONFIG"`, `sftp -F CONFIG ALIAS`: the VM's name, and the file.
    alias: str
    config: str
    #: The file of the private key, which is made for this VM alone.
    key: str
    #: The VM's public key; nothing else is ever talked to.
    host_key: str

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command in a VM ended."""

    #: None when a signal ended it.
    exit_code: int | None
    #: The signal's name without SIG (`KILL`), when one ended the command itself.
    signal: str | None
    #: As text; what is no UTF-8 becomes U+FFFD.
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    #: Seconds.
    duration: float
    #: Whether its time was over, and it was killed with all that it had started.
    timed_out: bool
    #: Whether there was more output than is kept.
    truncated: bool
    #: The bytes exactly.
    stdout_bytes: bytes = field(repr=False)
    stderr_bytes: bytes = field(repr=False)

    @property
    def success(self) -> bool:
        """Whether it exited with 0."""
        return self.exit_code == 0 and not self.timed_out

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        plain = ("exit_code", "signal", "stdout", "stderr", "duration", "timed_out", "truncated")
        return {name: getattr(self, name) for name in plain}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """A piece of a job's output, as the script wrote it."""

    #: Seconds since the epoch, by the guest's clock.
    time: float
    #: stdout, stderr, or note (ours: dropped output, trouble of the agent).
    stream: str
    #: The bytes exactly.
    data: bytes = field(repr=False)
    #: The same as text; invalid UTF-8 becomes U+FFFD, characters split between chunks are whole in the later one.
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TemplateInfo:
    """A template: a VM that has booted, frozen on disk, of which others are copy-on-write forks."""

    #: Digest of all that a fork must have in common with it.
    key: str
    #: Empty and 0 where the template can't be read (`problem`).
    image: str
    vcpus: int
    memory_mb: int
    #: kvm or tcg.
    accelerator: str
    #: Bytes on disk.
    size: int
    created_at: datetime | None
    used_at: datetime
    #: What made it, in words.
    made_with: str
    #: Why it can't be used, or None.
    problem: str | None

    def __repr__(self) -> str:
        trouble = " damaged" if self.problem else ""
        return f"<Template {self.key} {self.shape} {format_bytes(self.size)}{trouble}>"

    @property
    def shape(self) -> str:
        """IMAGE:VCPUS:MIB, as in the setting `pool_shapes`."""
        return f"{self.image}:{self.vcpus}:{self.memory_mb}"

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        plain = ("key", "image", "vcpus", "memory_mb", "accelerator", "size", "made_with", "problem")
        return {name: getattr(self, name) for name in plain} | {
            "created_at": self.created_at and self.created_at.isoformat(),
            "used_at": self.used_at.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """The forks that wait for a job, as their leader last told."""

    #: Who drives VMs: this (process), other or none. Without a leader no fork waits.
    leader: str
    #: Whether the leader keeps forks waiting.
    on: bool
    #: Forks wanted of each shape.
    forks: int = 0
    #: MiB that all may take, and that they are counted with.
    memory_mb: int = 0
    used_mb: int = 0
    #: How many wait, and how many are on their way, by shape (IMAGE:VCPUS:MIB).
    waiting: Mapping[str, int] = field(default_factory=dict)
    coming: Mapping[str, int] = field(default_factory=dict)
    #: The shape whose template is in the making.
    making: str | None = None

    def __str__(self) -> str:
        if self.leader == "none":
            return "no pool: nobody leads"
        if not self.on:
            return "no pool: the process that leads keeps none"
        used, most = format_bytes(self.used_mb * MIB), format_bytes(self.memory_mb * MIB)
        return f"{sum(self.waiting.values())} wait, {sum(self.coming.values())} coming, {used} of {most}"

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        plain = ("leader", "on", "forks", "memory_mb", "used_mb", "making")
        return {name: getattr(self, name) for name in plain} | {
            "waiting": dict(self.waiting), "coming": dict(self.coming)
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What goes on in a state directory."""

    #: Who drives VMs: this (process), other or none.
    leader: str
    #: Jobs that have not ended, by script state.
    jobs: Mapping[str, int]
    pool: PoolStatus
    #: How many templates there are, the disk space they take, and what they may take, bytes.
    templates: int
    templates_size: int
    templates_budget: int

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        templates = {"count": self.templates, "size": self.templates_size, "budget": self.templates_budget}
        return {
            "leader": self.leader, "jobs": dict(self.jobs), "pool": self.pool.to_json(), "templates": templates,
        }  # fmt: skip


def template_of(shelved: Shelved) -> TemplateInfo:
    """Return the public view of what lies on the shelf."""
    template = shelved.template
    return TemplateInfo(
        key=shelved.key,
        image=template.shape.image if template else "",
        vcpus=template.shape.vcpus if template else 0,
        memory_mb=template.shape.memory_mb if template else 0,
        accelerator=template.accelerator if template else "",
        size=shelved.size,
        created_at=_time(template.created_at) if template else None,
        used_at=_time(shelved.used_at),
        made_with=template.made_with if template else "",
        problem=shelved.problem,
    )


def job_of(record: JobRecord) -> Job:
    """Return the public view of a stored job."""
    return Job(
        id=record.id,
        request_id=record.id,
        name=record.name,
        status=status_of(record.script_state, record.vm_state, persistent=record.persistent),
        script_state=record.script_state.value,
        vm_state=record.vm_state.value,
        vcpus=record.vcpus,
        memory_mb=record.memory_mb,
        image=record.image,
        timeout=record.timeout,
        description=record.description,
        attempt=record.attempt,
        created_at=_time(record.created_at),
        started_at=_maybe(record.started_at),
        finished_at=_maybe(record.finished_at),
        exit_code=record.exit_code,
        reason=record.reason,
        message=record.message,
        accelerator=record.accelerator,
        start=record.start,
        isolation=record.isolation,
        waiting=record.waiting if record.is_waiting else None,
        stateful=record.workspace_id is not None,
        workspace_id=record.workspace_id,
        persistent=record.persistent,
        idle_pause=record.idle_pause,
        network=record.network,
        ipv6_lease=record.ipv6_lease,
        address=record.address,
        address6=record.address6,
        env=dict(record.env),  # a view of a mapping could not be pickled
        secrets=record.secret_names,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _maybe(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
