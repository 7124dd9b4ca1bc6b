"""The verbs of seed 000, through both faces."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import InvalidInput, JobActive, JobNotFound, WaitTimeout
from magpie_local.errors import ImageNotFound, NetworkNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

FOREVER = "echo begin; sleep 600"
UNKNOWN = str(uuid.uuid4())


def run(client: Any, script: str | bytes = "true", **fields: Any) -> Any:
    return client.jobs.run_and_wait("job", script, **{"memory_mb": 64, **fields})


def run_all(client: Any, scripts: Iterable[str | bytes]) -> list[Any]:
    jobs = [client.jobs.create("job", script, memory_mb=64) for script in scripts]
    return [client.jobs.wait(job.id) for job in jobs]


def test_a_job_is_created_pending_and_runs_to_its_end(client):
    created = client.jobs.create(name="report", script="echo done", vcpus=2, memory_mb=256)
    ended = client.jobs.wait(created.id)

    assert (created.status, created.name, created.vcpus, created.memory_mb) == ("pending", "report", 2, 256)
    assert created.id == created.request_id == str(uuid.UUID(created.id))
    assert (ended.status, ended.exit_code, ended.success, ended.is_final) == ("completed", 0, True, True)


def test_times_are_in_utc_and_near_now(client):
    job = run(client, "sleep 0.1")

    assert abs(datetime.now(UTC) - job.created_at) < timedelta(minutes=1)
    assert job.created_at <= job.started_at <= job.finished_at
    assert 0.1 <= job.duration < 5


def test_exit_codes_are_exact(client):
    codes = [1, 7, 126, 255]

    jobs = run_all(client, [f"exit {code}" for code in codes])

    assert [(job.status, job.exit_code) for job in jobs] == [("failed", code) for code in codes]


def test_a_signal_is_128_and_its_number(client):
    job = run(client, "kill -SEGV $$")

    assert (job.status, job.exit_code, job.message) == ("failed", 139, "The script was ended by signal SIGSEGV.")


def test_a_timeout_stops_the_job_with_124(client):
    job = run(client, FOREVER, timeout=0.3)

    assert (job.status, job.script_state, job.exit_code) == ("stopped", "timed_out", 124)


def test_a_failed_job_does_not_raise(client):
    assert run(client, "no-such-command").exit_code == 127


def test_env_values_arrive_byte_for_byte(client):
    values = ["", " ", "two\nlines\n", "'\"`$(touch pwned)`\\", "ä 🐦 \x1b[31m", "=", "-n", "x" * 100_000, "a\rb\tc"]
    env = {f"VALUE_{number}": value for number, value in enumerate(values)}

    job = run(client, "env -0", env=env)

    arrived = dict(entry.split("=", 1) for entry in client.jobs.get_logs(job.id).split("\0") if entry)
    assert env.items() <= arrived.items()
    assert job.env == env


def test_scripts_arrive_byte_for_byte(client):
    odd = [
        b"caf\xe9 \xff",
        b"\xef\xbb\xbf# byte order mark",
        b"# crlf\r\n\r\n",
        "Grüße 🐦".encode(),
        b"no newline",
        b"\x01\x1b",
    ]
    # The script prints the bytes that bash was given.
    scripts = [b'cat "$BASH_SOURCE"; exit 0\n' + rest for rest in odd]

    jobs = run_all(client, scripts)

    assert [b"".join(chunk.data for chunk in client.jobs.stream_logs(job.id)) for job in jobs] == scripts


def test_a_script_as_text_is_utf_8(client):
    job = run(client, "echo 'Grüße 🐦'")

    assert client.jobs.get_logs(job.id) == "Grüße 🐦\n"


def test_a_script_of_ten_megabytes_arrives_whole(client):
    script = 'wc -c < "$BASH_SOURCE"; exit 0\n' + "#" * 10_000_000

    job = run(client, script)

    assert client.jobs.get_logs(job.id).strip() == str(len(script))


def test_odd_names_are_text_and_nothing_else(client):
    names = ["../../etc/passwd", "<script>alert(1)</script>", "'; DROP TABLE jobs; --", "n" * 200]

    jobs = [client.jobs.create(name, "true", memory_mb=64) for name in names]

    assert [client.jobs.wait(job.id).name for job in jobs] == names


def test_a_name_with_a_command_in_it_runs_nothing_on_the_host(client, tmp_path):
    canary = tmp_path / "pwned"

    client.jobs.run_and_wait(f"$(touch {canary}); touch {canary} #", "true", memory_mb=64)

    assert not canary.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "two\nlines"), ("name", "n" * 300), ("name", ""), ("script", ""), ("script", "nul\0"),
        ("script", "#" * (16 * 1024 * 1024 + 1)), ("script", "\ud800"), ("script", None), ("vcpus", 0),
        ("vcpus", 10_000), ("vcpus", True), ("vcpus", 1.5), ("memory_mb", 1), ("memory_mb", 10**9), ("timeout", -1),
        ("timeout", 0), ("timeout", math.nan), ("timeout", math.inf), ("env", {"1A": "x"}), ("env", {"A": "nul\0"}),
        ("env", {"A": "x" * 1024 * 1024}), ("env", ["A=b"]), ("log_limit", 5), ("image", "../x"),
    ],
    ids=lambda part: repr(part)[:30],
)  # fmt: skip
def test_bad_input_is_refused_by_its_field_and_nothing_is_stored(client, field, value):
    before = [job.id for job in client.jobs.list(limit=1)]

    with pytest.raises(InvalidInput) as caught:
        client.jobs.create(**{"name": "job", "script": "true", "memory_mb": 64, field: value})

    assert caught.value.field.startswith(field)
    assert [job.id for job in client.jobs.list(limit=1)] == before


def test_an_unknown_image_is_refused_and_nothing_is_stored(client):
    before = [job.id for job in client.jobs.list(limit=1)]

    with pytest.raises(ImageNotFound, match="windows"):
        client.jobs.create("job", "true", image="windows")

    assert [job.id for job in client.jobs.list(limit=1)] == before


def test_an_address_on_no_network_is_refused(client):
    with pytest.raises(InvalidInput, match=r"network='none'"):
        client.jobs.create("job", "true", network="none", ipv6_lease="lease")


def test_a_network_that_is_not_there_is_refused(client):
    with pytest.raises(NetworkNotFound, match="nowhere"):
        client.jobs.create("job", "true", network="nowhere")


@pytest.mark.parametrize("field", ["workspace_id", "base_workspace_id"])
def test_a_workspace_without_stateful_is_refused_before_anybody_loses_data(client, field):
    with pytest.raises(InvalidInput, match=r"stateful=True") as refusal:
        client.jobs.create("job", "true", **{field: "w"})
    assert refusal.value.field == field


def test_what_means_nothing_without_a_workspace_is_accepted(client):
    job = run(client, stateful=False, workspace_id=None, workspace_size_gb=50, persistent=False, ipv6_lease=None)

    assert (job.status, job.stateful, job.persistent) == ("completed", False, False)


def test_a_parameter_that_does_not_exist_is_a_type_error(client):
    with pytest.raises(TypeError, match="vcpu"):
        client.jobs.create("job", "true", vcpu=2)


@pytest.mark.parametrize("interval", [-1, True, "5", None, math.nan])
def test_a_bad_poll_interval_is_refused_before_anything_is_stored(client, interval):
    before = [job.id for job in client.jobs.list(limit=1)]

    with pytest.raises(InvalidInput, match="poll_interval"):
        run(client, poll_interval=interval)

    assert [job.id for job in client.jobs.list(limit=1)] == before


@pytest.mark.parametrize(
    "verb",
    ["get", "get_status", "get_logs", "wait", "stop", "request_stop", "interrupt", "delete", "story"],
)
@pytest.mark.parametrize("job_id", [UNKNOWN, "job_abc123xyz", "", "../x", None])
def test_an_unknown_job_is_not_found_by_any_verb(client, verb, job_id):
    with pytest.raises(JobNotFound):
        getattr(client.jobs, verb)(job_id)


def test_an_unknown_jobs_logs_can_not_be_followed(client):
    with pytest.raises(JobNotFound):
        list(client.jobs.stream_logs(UNKNOWN))


def test_waiting_gives_up_and_the_job_goes_on(client):
    job = client.jobs.create("job", "sleep 0.6; echo done", memory_mb=64)

    with pytest.raises(WaitTimeout, match=job.id):
        client.jobs.wait(job.id, timeout=0.1)

    assert client.jobs.wait(job.id).status == "completed"


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, "5", True])
def test_a_bad_time_to_wait_is_refused(client, timeout):
    with pytest.raises(InvalidInput, match="timeout"):
        client.jobs.wait(UNKNOWN, timeout=timeout)


def test_waiting_for_no_time_is_looking_once(client):
    ended, running = run(client), client.running(FOREVER)

    assert client.jobs.wait(ended.id, timeout=0).status == "completed"
    with pytest.raises(WaitTimeout):
        client.jobs.wait(running.id, timeout=0)
    client.jobs.stop(running.id)


def test_stopping_a_running_job_returns_when_it_has_stopped(client):
    job = client.running(FOREVER)

    confirmation = client.jobs.stop(job.id)

    assert str(confirmation) == f"job {job.id}: stopped"
    assert client.jobs.get_status(job.id) == "stopped"


def test_stopping_twice_is_stopping_once(client):
    job = client.running(FOREVER)

    assert client.jobs.stop(job.id) == client.jobs.stop(job.id)


def test_stopping_a_job_that_ended_tells_how_it_ended(client):
    job = run(client)

    assert client.jobs.stop(job.id).status == "completed"
    assert client.jobs.get(job.id).script_state == "succeeded"


def test_an_interrupt_ends_a_running_script_as_ctrl_c_would(client):
    job = client.running("echo up; sleep 600")
    assert next(iter(client.jobs.stream_logs(job.id))).text == "up\n"

    asked = client.jobs.interrupt(job.id)

    assert asked.id == job.id
    ended = client.jobs.wait(job.id, timeout=20)
    assert (ended.status, ended.script_state, ended.exit_code) == ("failed", "failed", 130)


def test_an_interrupt_before_the_script_has_started_stops_the_job(client):
    job = client.jobs.create("job", "sleep 600", memory_mb=64)

    client.jobs.interrupt(job.id)

    assert client.jobs.wait(job.id, timeout=20).status in ("stopped", "failed")


def test_an_interrupt_of_a_job_that_ended_changes_nothing(client):
    job = client.jobs.run_and_wait("job", "exit 4", memory_mb=64)

    assert client.jobs.interrupt(job.id).status == "failed"
    assert (client.jobs.get(job.id).script_state, client.jobs.get(job.id).exit_code) == ("failed", 4)


def test_a_stop_can_be_asked_for_without_waiting(client):
    job = client.running(FOREVER)

    asked = client.jobs.request_stop(job.id)

    assert asked.status in ("running", "stopped")
    assert client.jobs.wait(job.id).status == "stopped"


def test_a_running_job_is_deleted_only_by_force(client):
    job = client.running(FOREVER)

    with pytest.raises(JobActive, match=job.id):
        client.jobs.delete(job.id)
    assert client.jobs.get_status(job.id) == "running"

    assert client.jobs.delete(job.id, force=True).status == "deleted"
    with pytest.raises(JobNotFound):
        client.jobs.get(job.id)


def test_a_deleted_job_leaves_no_file(client):
    job = run(client, "pwd")
    folder = Path(client.jobs.get_logs(job.id).strip()).parents[1]
    assert folder.name == job.id
    assert folder.exists()

    client.jobs.delete(job.id)

    assert not folder.exists()
    with pytest.raises(JobNotFound):
        client.jobs.delete(job.id)


def test_jobs_are_listed_newest_first_in_pages(client):
    made = [client.jobs.create(f"list {number}", "true", memory_mb=64).id for number in range(5)]
    newest = made[::-1]

    def page(**args: Any) -> list[str]:
        return [job.id for job in client.jobs.list(**args)]

    assert page(limit=3) == newest[:3]
    assert page(limit=2, offset=1) == newest[1:3]
    assert page(limit=2, before=newest[1]) == newest[2:4]


def test_jobs_are_listed_by_status(client):
    failed = run(client, "exit 1")
    running = client.running(FOREVER)

    assert failed.id in [job.id for job in client.jobs.list(status="failed")]
    assert [job.id for job in client.jobs.list(status="running")] == [running.id]
    client.jobs.stop(running.id)
    assert client.jobs.list(status="running") == []


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": "5"}, {"limit": True}, {"offset": -1}, {"offset": 1.0},
        {"status": "done"}, {"status": "succeeded"}, {"status": ""}, {"status": ["running"]},
    ],
    ids=repr,
)  # fmt: skip
def test_a_bad_page_is_refused_by_its_field(client, bad):
    (field,) = bad

    with pytest.raises(InvalidInput) as caught:
        client.jobs.list(**bad)

    assert caught.value.field == field


def test_the_story_tells_each_step_with_its_time(client):
    job = run(client, "exit 5")

    story = client.jobs.story(job.id)

    assert [event.kind for event in story][:6] == ["accepted", "claimed", "vm_booting", "vm_ready", "started", "exited"]
    assert story == sorted(story, key=lambda event: event.time)


def test_values_of_the_environment_are_in_no_repr_and_no_json(client):
    job = run(client, env={"PASSWORD": "hunter2"})

    assert "hunter2" not in repr(job)
    assert "hunter2" not in str(job.to_json())
    assert job.to_json()["env"] == ["PASSWORD"]
