from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from magpie_local.cli import render
from magpie_local.domain.ids import JobId
from magpie_local.domain.job import Event
from magpie_local.domain.need import Need
from magpie_local.domain.states import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job, LogChunk

    MakeJob = Callable[..., Job]
    MakeChunk = Callable[..., LogChunk]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 0),
        ({"status": "failed", "script_state": "failed", "exit_code": 7}, 7),
        ({"status": "failed", "script_state": "failed", "exit_code": 137}, 137),
        ({"status": "failed", "script_state": "failed", "exit_code": None, "reason": "boot_timeout"}, 255),
        ({"status": "failed", "script_state": "lost", "exit_code": None}, 255),
        ({"status": "stopped", "script_state": "timed_out", "exit_code": 124}, 124),
        ({"status": "stopped", "script_state": "stopped", "exit_code": 143}, 130),
        ({"status": "stopped", "script_state": "cancelled", "exit_code": None}, 130),
        ({"status": "running", "script_state": "running", "exit_code": None}, None),
        ({"status": "pending", "script_state": "queued", "exit_code": None}, None),
    ],
)
def test_the_exit_code_tells_how_the_job_ended(a_job: MakeJob, fields: dict[str, object], code: int | None) -> None:
    assert render.exit_status(a_job(**fields)) == code


def test_the_last_line_names_status_exit_code_and_time(a_job: MakeJob) -> None:
    assert render.end_line(a_job()) == "job 3f2a9c1e completed · exit code 0 · 2.50 s"


def test_the_last_line_tells_why_a_job_was_lost(a_job: MakeJob) -> None:
    job = a_job(status="failed", script_state="lost", exit_code=None, reason="vm_killed", message="The VM was killed.")

    assert render.end_line(job).endswith("· lost · The VM was killed.")


def test_only_emulation_is_worth_a_warning(a_job: MakeJob) -> None:
    assert render.accelerator_line(a_job(accelerator="kvm")) is None
    assert "no security boundary" in str(render.accelerator_line(a_job(accelerator="tcg")))


def test_a_list_has_one_line_a_job_and_tells_why_one_waits(a_job: MakeJob) -> None:
    waiting = a_job(status="pending", script_state="queued", waiting="4 vCPUs asked, 2 free", exit_code=None)

    head, first, second = render.jobs_table([a_job(name="x" * 300), waiting]).splitlines()

    assert head.startswith("ID        NAME")
    assert len(first) < 160
    assert second.endswith("4 vCPUs asked, 2 free")


def test_details_show_the_names_of_the_environment_but_no_value(a_job: MakeJob) -> None:
    details = render.job_details(a_job())

    assert "TOKEN" in details
    assert "s3cret" not in details


def test_details_show_what_a_job_has_besides_its_vm(a_job: MakeJob) -> None:
    plain = render.job_details(a_job())
    details = render.job_details(
        a_job(workspace_id="my-project", network="lab", address="10.77.0.5", address6="fd00::5", persistent=True)
    )

    assert "workspace:    my-project\n" in details
    assert "network:      lab 10.77.0.5 fd00::5\n" in details
    assert "persistent:   yes\n" in details
    assert not any(word in plain for word in ("workspace:", "network:", "persistent:", "secrets:"))


def test_json_of_a_job_shows_no_value_of_the_environment(a_job: MakeJob) -> None:
    record = render.job_json(a_job())

    assert record["exit"] == 0
    assert "s3cret" not in json.dumps(record)


def test_a_story_has_the_time_since_the_event_before() -> None:
    story = [
        Event(seq=n, job_id=JobId("x"), attempt=1, time=1000 + after, kind=kind)
        for n, (after, kind) in enumerate([(0.0, EventKind.ACCEPTED), (0.25, EventKind.CLAIMED)])
    ]

    lines = render.story_table(story).splitlines()

    assert lines[1].endswith("+0.000 s  accepted")
    assert lines[2].endswith("+0.250 s  claimed")


def test_an_empty_story_is_only_its_head() -> None:
    assert render.story_table([]) == "TIME  AFTER  EVENT"


def test_output_that_is_not_utf8_keeps_its_bytes_in_json(a_chunk: MakeChunk) -> None:
    record = render.log_json(a_chunk(b"\xff\x00"))

    assert base64.b64decode(str(record["base64"])) == b"\xff\x00"
    assert "base64" not in render.log_json(a_chunk(b"plain"))


def test_a_vm_that_sleeps_is_told_in_lists_and_details(a_job: MakeJob) -> None:
    job = a_job(status="running", vm_state="asleep", persistent=True, idle_pause=600.0)

    assert render.jobs_table([job]).rstrip().endswith("asleep")
    details = render.job_details(job)
    assert "running (script succeeded, VM asleep)" in details
    assert "idle pause:   10 min" in details


def test_a_need_that_is_not_met_is_followed_by_its_cure() -> None:
    needs = [
        Need(name="QEMU", ok=True, detail="7.2", cure=None),
        Need(name="libvirt", ok=False, detail="absent", cure="apt-get install libvirt-daemon"),
    ]

    assert render.needs_table(needs).splitlines() == [
        "ok  QEMU: 7.2",
        "NO  libvirt: absent",
        "    cure: apt-get install libvirt-daemon",
    ]
