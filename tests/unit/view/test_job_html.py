from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.view.job_html import job_html, job_text
from magpie_local.view.log_html import BUDGET, line_text, log_html
from magpie_local.view.logtail import Line
from magpie_local.view.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job
    from tests.unit.view.conftest import Page

    MakeJob = Callable[..., Job]
    Read = Callable[[str], Page]

KIB = 1024
ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)
MARKUP = st.sampled_from([
    "<script>alert(1)</script>", "</pre></div><img src=x onerror=alert(1)>", "' onclick='x", "</style>", "</title>",
    "\x1b[31m", "\x1b]8;;javascript:x\x07", "\x00", "\u202e", "\ud800", "\n", "<!--", "]]>", "&amp;",
])  # fmt: skip
HOSTILE = st.lists(MARKUP | ANY, max_size=6).map("".join)
LINES = st.builds(Line, HOSTILE, st.sampled_from(["stdout", "stderr", "note", "<odd>"]), st.integers(0, 9))

RUNNING: dict[str, Any] = {
    "status": "running", "script_state": "running", "vm_state": "ready", "finished_at": None, "exit_code": None,
}  # fmt: skip
ENDINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"status": "pending", "script_state": "queued", "finished_at": None, "exit_code": None}, "pending", "○"),
    ({**RUNNING, "script_state": "starting", "status": "pending"}, "starting", "○"),
    (RUNNING, "running", "●"),
    ({**RUNNING, "script_state": "succeeded", "persistent": True, "exit_code": 0}, "running", "●"),
    ({}, "completed", "✓"),
    ({"status": "failed", "script_state": "failed", "exit_code": 7}, "failed", "✗"),
    ({"status": "stopped", "script_state": "timed_out", "exit_code": 124}, "timed out", "✗"),
    ({"status": "stopped", "script_state": "stopped", "exit_code": 143}, "stopped", "■"),
    ({"status": "stopped", "script_state": "cancelled", "exit_code": None}, "cancelled", "■"),
    ({"status": "failed", "script_state": "lost", "exit_code": None, "reason": "vm_killed"}, "lost", "?"),
]


def many(count: int, length: int) -> tuple[Line, ...]:
    return tuple(Line(f"{number:>6} ".ljust(length, "x")) for number in range(count))


@pytest.mark.parametrize(("fields", "word", "mark"), ENDINGS)
def test_a_state_is_told_by_a_word_and_a_sign_and_not_by_its_colour_alone(
    a_job: MakeJob, read: Read, fields: dict[str, object], word: str, mark: str
) -> None:
    snapshot = Snapshot(job=a_job(**fields))
    page = read(job_html(snapshot))

    assert page.text.startswith(word)
    assert page.of("div")[0]["aria-label"] == f"job hello: {word}"
    assert page.of("svg")[0]["aria-hidden"] == "true"
    assert job_text(snapshot).startswith(f"{mark} job 3f2a9c1e ")


def test_no_two_kinds_of_states_have_the_same_drawing(a_job: MakeJob) -> None:
    drawings = {
        (mark, job_html(Snapshot(job=a_job(**fields))).partition("</circle>")[0].partition("<svg class='mi'")[2][:230])
        for fields, _, mark in ENDINGS
    }

    assert len(drawings) >= len({mark for _, _, mark in ENDINGS})


def test_the_head_tells_what_the_job_is(a_job: MakeJob, read: Read) -> None:
    job = a_job(start="fork", workspace_id="my-project", network="lab", address="10.0.0.2", attempt=2)

    text = read(job_html(Snapshot(job=job))).text

    assert "hello 3f2a9c1e 2.50 s" in text
    for fact in ("exit code 0", "1 vCPU · 512.0 MiB", "image base", "forked from a template", "workspace my-project",
                 "network lab", "10.0.0.2", "attempt 2"):  # fmt: skip
        assert fact in text


def test_the_default_network_goes_without_saying(a_job: MakeJob, read: Read) -> None:
    assert "network" not in read(job_html(Snapshot(job=a_job(network="default")))).text


def test_a_running_job_shows_the_callers_seconds_and_a_finished_one_its_own(a_job: MakeJob, read: Read) -> None:
    assert "12.0 s" in read(job_html(Snapshot(job=a_job(**RUNNING), elapsed=12.0))).text
    assert "12.0 s" not in read(job_html(Snapshot(job=a_job(), elapsed=12.0))).text


def test_why_a_job_waits_or_was_lost_is_a_sentence(a_job: MakeJob, read: Read) -> None:
    waiting = Snapshot(job=a_job(status="pending", script_state="queued", waiting="4 vCPUs asked", exit_code=None))
    lost = Snapshot(job=a_job(status="failed", script_state="lost", exit_code=None, message="The VM was <killed>."))

    assert "waits: 4 vCPUs asked" in read(job_html(waiting)).text
    assert "waits: 4 vCPUs asked" in job_text(waiting)
    assert "The VM was <killed>." in read(job_html(lost)).text
    assert job_text(lost).count("The VM was <killed>.") == 1


def test_emulation_is_warned_of(a_job: MakeJob, read: Read) -> None:
    assert "no security boundary" in read(job_html(Snapshot(job=a_job(accelerator="tcg")))).text


def test_measurements_are_curves_with_their_last_value(a_job: MakeJob, read: Read) -> None:
    snapshot = Snapshot(job=a_job(**RUNNING), cpu=(0.1, 0.92), memory=(1 << 20, 300 << 20), elapsed=1.0)
    page = read(job_html(snapshot))

    assert [svg.get("aria-label") for svg in page.of("svg")[1:]] == ["CPU: 92 % of one core", "memory: 300.0 MiB"]
    assert "CPU  92 %" in page.text
    assert job_text(snapshot) == "● job 3f2a9c1e running · hello · 1.00 s · CPU 92 % · memory 300.0 MiB"


def test_output_is_in_lines_each_with_its_stream(a_job: MakeJob, read: Read) -> None:
    lines = (Line("one"), Line("bad", "stderr"), Line("worse", "stderr"), Line("two"), Line("[dropped]", "note"))
    page = read(job_html(Snapshot(job=a_job(), lines=lines)))

    assert page.output == "one\nbad\nworse\ntwo\n[dropped]\n"
    assert [span for span in page.of("span") if "title" in span] == [
        {"class": "e", "title": "stderr"}, {"class": "n", "title": "note"},
    ]  # fmt: skip
    assert job_text(Snapshot(job=a_job(), lines=lines)).splitlines()[1:] == ["one", "bad", "worse", "two", "[dropped]"]


def test_the_output_is_reached_by_keyboard_and_named(a_job: MakeJob, read: Read) -> None:
    page = read(job_html(Snapshot(job=a_job(), lines=(Line("x"),))))

    [region] = [div for div in page.of("div") if div.get("role") == "region"]
    assert region["tabindex"] == "0"
    assert region["aria-label"] == "output of job hello"


@pytest.mark.parametrize("fields", [{}, RUNNING])
def test_silence_is_told(a_job: MakeJob, read: Read, fields: dict[str, object]) -> None:
    text = read(job_html(Snapshot(job=a_job(**fields)))).text

    assert text.endswith("no output yet" if fields else "no output")


def test_lines_left_out_are_counted_and_the_way_to_them_named(a_job: MakeJob, read: Read) -> None:
    snapshot = Snapshot(job=a_job(), lines=many(3, 10), dropped=12_000)
    told = "the last 3 of 12,003 lines; all of them: magpie logs 3f2a9c1e"

    assert told in read(job_html(snapshot)).text
    assert told in job_text(snapshot)


def test_the_way_into_the_vm_is_shown(a_job: MakeJob, read: Read) -> None:
    snapshot = Snapshot(job=a_job(**RUNNING), ssh="ssh -F '/tmp/x y' vm", note="Press Stop.")

    for text in (read(job_html(snapshot)).text, job_text(snapshot)):
        assert "ssh -F '/tmp/x y' vm" in text
        assert "Press Stop." in text


def test_no_value_of_the_environment_is_shown(a_job: MakeJob) -> None:
    assert "s3cret" not in job_html(Snapshot(job=a_job())) + job_text(Snapshot(job=a_job()))


def test_a_line_cut_short_says_by_how_much() -> None:
    assert line_text(Line("abc", cut=1_234)) == "abc … (1,234 more characters)"
    assert line_text(Line("x" * 2_010)).endswith("xx … (10 more characters)")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=HOSTILE, sentence=HOSTILE, ssh=HOSTILE, note=HOSTILE, lines=st.lists(LINES, max_size=8))
def test_nothing_from_a_job_becomes_markup(
    a_job: MakeJob, read: Read, name: str, sentence: str, ssh: str, note: str, lines: list[Line]
) -> None:
    job = a_job(
        name=name, image=sentence, reason=sentence, message=sentence, waiting=sentence, workspace_id=name, network=name,
        address=name, exit_code=None, accelerator=name, start=name,
    )  # fmt: skip
    snapshot = Snapshot(job=job, lines=tuple(lines), ssh=ssh, note=note, cpu=(0.5,), memory=(1,))

    page = read(job_html(snapshot))

    assert page.output == "".join(f"{line_text(line)}\n" for line in lines)
    assert len(page.styles) == 1
    assert "\x1b" not in job_text(snapshot)
    job_text(snapshot).encode()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    piece=st.sampled_from(["\x1b[31mx\x1b[32my", "<", "\u202e", "'", "\x00", "日", "x", "\x1b[48;2;1;2;3mz", "\ud800"]),
    length=st.integers(1, 3_000), count=st.integers(1, 400),
    streams=st.lists(st.sampled_from(["stdout", "stderr"]), min_size=1, max_size=9),
)  # fmt: skip
def test_a_view_is_never_larger_than_60_kb(
    a_job: MakeJob, read: Read, piece: str, length: int, count: int, streams: list[str]
) -> None:
    lines = tuple(Line((piece * length)[:length], streams[at % len(streams)]) for at in range(count))
    text = piece * 1_000
    job = a_job(
        name=text, message=text, reason=text, image=text, waiting=text, workspace_id=text, network=text, address=text,
        address6=text, start=text, id=text, accelerator="tcg",
    )  # fmt: skip
    snapshot = Snapshot(job=job, lines=lines, dropped=9, ssh=text, note=text, cpu=(0.5,) * 99, memory=(1,) * 99)

    html = job_html(snapshot)

    assert len(html.encode()) <= 60 * KIB
    assert read(html).output.count("\n") >= min(count, 1)


def test_200_lines_of_100_characters_are_all_shown_within_60_kb(a_job: MakeJob, read: Read) -> None:
    html = job_html(Snapshot(job=a_job(), lines=many(200, 100), cpu=(0.5,) * 600, memory=(1 << 28,) * 600))

    assert len(html.encode()) <= 60 * KIB
    assert read(html).output.count("\n") == 200


def test_lines_full_of_colours_lose_them_rather_than_their_text() -> None:
    rainbow = "".join(f"\x1b[38;5;{16 + at % 200}m{at % 10}" for at in range(100))
    lines = [Line("\x1b[31mred\x1b[0m")] * 100 + [Line(rainbow)] * 100

    log = log_html(lines)

    assert log.count == 200
    assert log.html.startswith("<span class='ax a1'>red</span>\n")
    assert log.html.endswith("0123456789\n")
    assert len(log.html.encode()) <= BUDGET


def test_100_finished_jobs_of_20_lines_are_at_most_1_mb_in_a_notebook(a_job: MakeJob) -> None:
    snapshot = Snapshot(job=a_job(), lines=many(20, 80), cpu=(0.5,) * 60, memory=(1 << 28,) * 60)
    data = {"text/html": job_html(snapshot).splitlines(True), "text/plain": job_text(snapshot).splitlines(True)}
    cell = {"cell_type": "code", "source": ["%%magpie"], "outputs": [{"output_type": "display_data", "data": data}]}

    assert len(json.dumps([cell] * 100, indent=1)) <= 1_000_000
