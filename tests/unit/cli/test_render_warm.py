from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import ForkProof, Job, PoolStatus, TemplateInfo
from magpie_local.api.models import EngineStatus
from magpie_local.cli import render
from magpie_local.domain.forkproof import Check

if TYPE_CHECKING:
    from collections.abc import Callable

MADE = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def a_template(**fields: Any) -> TemplateInfo:
    usual: dict[str, Any] = {
        "key": "0123456789abcdef", "image": "base", "vcpus": 1, "memory_mb": 512, "accelerator": "tcg",
        "size": 40 << 20, "created_at": MADE, "used_at": MADE, "made_with": "QEMU 7.2", "problem": None,
    }  # fmt: skip
    return TemplateInfo(**usual | fields)


def a_status(pool: PoolStatus, **fields: Any) -> EngineStatus:
    usual: dict[str, Any] = {
        "leader": pool.leader, "jobs": {}, "pool": pool, "templates": 2, "templates_size": 80 << 20,
        "templates_budget": 8 << 30,
    }  # fmt: skip
    return EngineStatus(**usual | fields)


@pytest.mark.parametrize(
    ("start", "words"), [("cold", "booted"), ("fork", "forked from a template"), ("pool", "started from the pool")]
)
def test_the_last_line_of_a_run_tells_how_it_started(a_job: Callable[..., Job], start: str, words: str) -> None:
    assert render.end_line(a_job(start=start)) == f"job 3f2a9c1e completed · exit code 0 · 2.50 s · {words}"
    assert words in render.job_details(a_job(start=start))


def test_details_name_the_isolation_only_where_it_is_not_the_usual(a_job: Callable[..., Job]) -> None:
    assert "isolation" not in render.job_details(a_job())
    assert "isolation:    private" in render.job_details(a_job(isolation="private"))


def test_templates_have_one_line_each_and_a_damaged_one_its_problem() -> None:
    broken = a_template(image="", vcpus=0, memory_mb=0, accelerator="", created_at=None, problem="it is damaged")

    head, first, second = render.templates_table([a_template(), broken]).splitlines()

    assert head.split()[:4] == ["KEY", "IMAGE", "CPUS", "MEMORY"]
    assert first.split()[:6] == ["0123456789abcdef", "base", "1", "512.0", "MiB", "tcg"]
    assert second.endswith("it is damaged")


def test_a_template_as_a_result_is_one_line() -> None:
    assert render.template_line(a_template()) == "0123456789abcdef base:1:512 40.0 MiB"


def test_what_goes_on_is_one_fact_a_line() -> None:
    pool = PoolStatus(
        leader="other", on=True, forks=2, memory_mb=1024, used_mb=360, waiting={"base:1:512": 2},
        coming={"base:2:512": 1}, making="base:4:512",
    )  # fmt: skip

    shown = render.engine_details(a_status(pool, jobs={"queued": 3, "running": 2}))

    assert [tuple(line.split(maxsplit=1)) for line in shown.splitlines()] == [
        ("led", "by:         another process"),
        ("jobs:", "3 queued, 2 running"),
        ("templates:", "2, 80.0 MiB of 8.0 GiB"),
        ("in", "the making:  base:4:512"),
        ("pool:", "2 wait, 1 coming, 360.0 MiB of 1.0 GiB"),
        ("base:1:512", "2 wait, 0 coming, 2 wanted"),
        ("base:2:512", "0 wait, 1 coming, 2 wanted"),
    ]


def test_where_nobody_leads_there_is_nothing_to_show() -> None:
    shown = render.engine_details(a_status(PoolStatus(leader="none", on=False), templates_budget=0))

    assert "nobody" in shown
    assert "nothing waits or runs" in shown
    assert "off, every VM boots afresh" in shown
    assert "no pool: nobody leads" in shown


@pytest.mark.parametrize(("ok", "verdict"), [(True, "are clean"), (False, "are NOT clean")])
def test_a_proof_is_a_table_with_its_verdict(ok: bool, verdict: str) -> None:
    checks = (Check(name="clock", ok=True, detail="right"), Check(name="hostname", ok=ok, detail="equal in a and b"))

    lines = render.proof_table(ForkProof(n=3, template="abc", checks=checks)).splitlines()

    assert lines[0].split() == ["CHECK", "OK", "DETAIL"]
    assert lines[2].split(maxsplit=2) == ["hostname", "ok" if ok else "NO", "equal in a and b"]
    assert lines[-1] == f"3 forks of the template abc {verdict}"
