"""Snapshots as text and as JSON: pure functions, no terminal, no client."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import MIB, format_bytes, format_seconds
from magpie_local.domain.states import ScriptState
from magpie_local.view import tables
from magpie_local.view.tables import table as table
from magpie_local.view.words import SHORT as SHORT
from magpie_local.view.words import accelerator_line as accelerator_line
from magpie_local.view.words import end_line as end_line
from magpie_local.view.words import moment, shape, start
from magpie_local.view.words import start_line as start_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from magpie_local import ForkProof, Job, LogChunk, PoolStatus, TemplateInfo
    from magpie_local.api.models import EngineStatus
    from magpie_local.domain.job import Event
    from magpie_local.domain.need import Need

    Record = dict[str, object]

OURS, TIMEOUT, INTERRUPTED = 255, 124, 130

_BY_STATE = {
    ScriptState.SUCCEEDED: 0,
    ScriptState.TIMED_OUT: TIMEOUT,
    ScriptState.STOPPED: INTERRUPTED,
    ScriptState.CANCELLED: INTERRUPTED,
}


def exit_status(job: Job) -> int | None:
    """Return the exit code that the command gives for a job: the job's own where it has one; None while it goes on."""
    if not job.is_final:
        return None
    state = ScriptState(job.script_state)
    if state is ScriptState.FAILED and job.exit_code is not None:
        return job.exit_code
    return _BY_STATE.get(state, OURS)


def jobs_table(jobs: Sequence[Job]) -> str:
    """Return a list of jobs, one a line."""
    return tables.table_text(tables.jobs_table(jobs))


def job_details(job: Job) -> str:
    """Return everything known of one job, one fact a line."""
    facts = {
        "job": job.id,
        "name": job.name,
        "description": job.description,
        "status": f"{job.status} (script {job.script_state}, VM {job.vm_state})",
        "waits for": job.waiting,
        "exit code": job.exit_code,
        "reason": job.reason,
        "message": job.message,
        "size": shape(job),
        "image": job.image,
        "timeout": None if job.timeout is None else format_seconds(job.timeout),
        "idle pause": None if job.idle_pause is None else format_seconds(job.idle_pause),
        "environment": ", ".join(job.env),
        "secrets": ", ".join(job.secrets),
        "workspace": job.workspace_id,
        "network": _place(job),
        "persistent": "yes" if job.persistent else None,
        "accelerator": job.accelerator,
        "start": start(job),
        "isolation": None if job.isolation == "shared" else job.isolation,
        "attempt": job.attempt,
        "created": moment(job.created_at),
        "started": moment(job.started_at),
        "finished": moment(job.finished_at),
        "took": None if job.duration is None else format_seconds(job.duration),
    }
    return "\n".join(f"{name + ':':<13} {value}" for name, value in facts.items() if value not in (None, "", "-"))


def _place(job: Job) -> str | None:
    """Return a job's network with its addresses there; None where it reaches nobody."""
    if job.network == "none":
        return None
    return " ".join(filter(None, (job.network, job.address, job.address6)))


def story_table(story: Sequence[Event]) -> str:
    """Return a job's events, each with its time and the seconds since the one before."""
    rows = []
    before = story[0].time if story else 0.0
    for event in story:
        clock = datetime.fromtimestamp(event.time).astimezone()
        stamp = clock.strftime("%H:%M:%S.") + f"{clock.microsecond // 1000:03d}"
        rows.append((stamp, f"{event.time - before:+.3f} s", str(event)))
        before = event.time
    return table(("TIME", "AFTER", "EVENT"), rows)


def needs_table(needs: Sequence[Need]) -> str:
    """Return what the machine needs, each line ok or followed by its cure."""
    lines = []
    for need in needs:
        lines.append(f"{'ok ' if need.ok else 'NO '} {need.name}: {need.detail}")
        if not need.ok and need.cure:
            lines.append(f"    cure: {need.cure}")
    return "\n".join(lines)


def images_table(images: Sequence[Record]) -> str:
    """Return a list of built images, one a line, with what is wrong with it where something is."""
    keys = ("name", "version", "distribution", "kernel_release", "built_at", "problem")
    rows = [[str(image.get(key) or "") for key in keys] for image in images]
    return table([key.split("_")[0].upper() if key != "problem" else "" for key in keys], rows)


def image_details(image: Record) -> str:
    """Return an image's manifest, one fact a line."""
    lines = []
    for key, value in image.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}  {_plain(fact)}" for name, fact in value.items())]
        elif value is not None:
            lines.append(f"{key + ':':<16} {value}")
    return "\n".join(lines)


def templates_table(templates: Sequence[TemplateInfo]) -> str:
    """Return a list of templates, one a line, with what is wrong with it where something is."""
    head = ("KEY", "IMAGE", "CPUS", "MEMORY", "ACCELERATOR", "SIZE", "CREATED", "USED", "")
    rows = [
        (
            one.key,
            one.image or "-",
            str(one.vcpus or "-"),
            format_bytes(one.memory_mb * MIB) if one.memory_mb else "-",
            one.accelerator or "-",
            format_bytes(one.size),
            moment(one.created_at),
            moment(one.used_at),
            one.problem or "",
        )
        for one in templates
    ]
    return table(head, rows)


def template_line(template: TemplateInfo) -> str:
    """Return a template as the result of a command."""
    return f"{template.key} {template.shape} {format_bytes(template.size)}"


def engine_details(status: EngineStatus) -> str:
    """Return what goes on in a state directory, one fact a line."""
    jobs = ", ".join(f"{count} {state}" for state, count in status.jobs.items()) or "nothing waits or runs"
    size, budget = format_bytes(status.templates_size), format_bytes(status.templates_budget)
    space = f"{size} of {budget}" if status.templates_budget else f"{size}; off, every VM boots afresh"
    pool = status.pool
    facts = [
        ("led by", {"this": "this process", "other": "another process", "none": "nobody"}[status.leader]),
        ("jobs", jobs),
        ("templates", f"{status.templates}, {space}"),
        ("in the making", pool.making),
        ("pool", str(pool)),
        *((f"  {shape}", _waiting(pool, shape)) for shape in sorted({*pool.waiting, *pool.coming})),
    ]
    return table((), [(f"{name}:" if name[0] != " " else name, fact) for name, fact in facts if fact is not None])


def proof_table(proof: ForkProof) -> str:
    """Return a proof, one check a line, and the verdict."""
    rows = [(check.name, "ok" if check.ok else "NO", check.detail) for check in proof.checks]
    verdict = "are clean" if proof.ok else "are NOT clean"
    return f"{table(('CHECK', 'OK', 'DETAIL'), rows)}\n\n{proof.n} forks of the template {proof.template} {verdict}"


def settings_table(values: Mapping[str, object], origins: Mapping[str, str] | None) -> str:
    """Return settings one a line, with their origins where given."""
    rows = [
        (name, "-" if value is None else str(value), f"({origins[name]})" if origins else "")
        for name, value in values.items()
    ]
    return table((), rows)


def job_json(job: Job) -> Record:
    """Return a job as the one schema of all commands: Job.to_json() and `exit`, the command's exit code for it."""
    return {**job.to_json(), "exit": exit_status(job)}


def event_json(event: Event) -> Record:
    """Return one event of a story."""
    return {"time": event.time, "attempt": event.attempt, "kind": str(event.kind), "detail": dict(event.detail)}


def log_json(chunk: LogChunk) -> Record:
    """Return a piece of output; `base64` holds the exact bytes where they are not UTF-8."""
    record: Record = {"time": chunk.time, "stream": chunk.stream, "text": chunk.text}
    if chunk.stream == "note":
        return record
    try:
        chunk.data.decode()
    except UnicodeDecodeError:
        record["base64"] = base64.b64encode(chunk.data).decode()
    return record


def need_json(need: Need) -> Record:
    """Return one need of the machine."""
    return {"name": need.name, "ok": need.ok, "detail": need.detail, "cure": need.cure}


def _waiting(pool: PoolStatus, shape: str) -> str:
    return f"{pool.waiting.get(shape, 0)} wait, {pool.coming.get(shape, 0)} coming, {pool.forks} wanted"


def _plain(value: object) -> str:
    return "  ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
