from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.view.failure import failure_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job

    MakeJob = Callable[..., Job]

FAILED = {"status": "failed", "script_state": "failed", "exit_code": 7}


def test_a_failure_tells_how_it_ended_what_it_said_and_where_the_rest_is(a_job: MakeJob) -> None:
    assert failure_text(a_job(**FAILED), ["careful", "\x1b[31mbroken\x1b[0m\n"]) == (
        "job 3f2a9c1e (hello) failed: exit code 7 after 2.50 s\n"
        "last 2 lines of stderr:\n"
        "    careful\n"
        "    broken\n"
        "the whole output: %magpie logs 3f2a9c1e"
    )


def test_only_the_last_ten_lines_are_shown(a_job: MakeJob) -> None:
    lines = failure_text(a_job(**FAILED), [f"line {number}" for number in range(30)]).splitlines()

    assert lines[1] == "last 10 lines of stderr:"
    assert lines[2:-1] == [f"    line {number}" for number in range(20, 30)]


def test_silence_on_stderr_is_told(a_job: MakeJob) -> None:
    assert "\nit wrote nothing to stderr\n" in failure_text(a_job(**FAILED), [])


def test_a_job_that_never_ran_tells_only_why(a_job: MakeJob) -> None:
    job = a_job(
        status="failed", script_state="failed", exit_code=None, started_at=None, reason="boot_timeout",
        message="The VM did not come up.",
    )  # fmt: skip

    assert failure_text(job, []).splitlines() == [
        "job 3f2a9c1e (hello) failed: The VM did not come up.",
        "the whole output: %magpie logs 3f2a9c1e",
    ]


def test_a_timeout_is_called_so(a_job: MakeJob) -> None:
    job = a_job(status="stopped", script_state="timed_out", exit_code=124)

    assert failure_text(job, ["x"]).splitlines()[0] == "job 3f2a9c1e (hello) timed out: exit code 124 after 2.50 s"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.lists(st.text(st.characters(codec=None, exclude_categories=())), max_size=12))
def test_a_failure_is_short_and_has_no_orders_to_the_terminal(a_job: MakeJob, name: str, lines: list[str]) -> None:
    text = failure_text(a_job(**FAILED, name=name, message=name, reason=name), [*lines, "x" * 10_000])

    assert len(text.split("\n")) <= 13
    assert len(text) < 4_000
    assert "\x1b" not in text
    text.encode()
