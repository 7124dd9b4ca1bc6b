from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local.api.metrics import JobUsage
from magpie_local.cli.top import fitted, total_line, usage_json, usage_table
from magpie_local.domain.metrics import Sample
from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job

    MakeUsage = Callable[..., JobUsage]


@pytest.fixture
def a_usage(a_job: Callable[..., Job]) -> MakeUsage:
    """Make a running job with the given CPU use and MiB; without them it has no VM."""

    def make(cpu: float | None = None, memory: int = 0, **fields: object) -> JobUsage:
        sample = None
        if cpu is not None:
            sample = Sample(time=1e9, cpu=cpu, seconds=2.0, cpu_seconds=75.0, memory=memory * MIB)
        return JobUsage(job=a_job(**{"status": "running", "script_state": "running", **fields}), sample=sample)

    return make


def test_the_table_tells_what_each_vm_takes(a_usage: MakeUsage) -> None:
    assert usage_table([a_usage(1.174, 300, vcpus=2)]).splitlines() == [
        "ID        NAME   STATUS   CPU   CPUS  CPU TIME    MEMORY     OF",
        "3f2a9c1e  hello  running  117%  2     1 min 15 s  300.0 MiB  512.0 MiB",
    ]


def test_those_that_take_most_come_first_and_those_without_a_vm_last(a_usage: MakeUsage) -> None:
    usage = [
        a_usage(name="none"),
        a_usage(0.0, 100, name="idle"),
        a_usage(0.0, 200, name="large"),
        a_usage(0.9, 50, name="busy"),
    ]

    names = [line.split()[1] for line in usage_table(usage).splitlines()[1:]]

    assert names == ["busy", "large", "idle", "none"]


def test_a_job_without_a_vm_takes_nothing(a_usage: MakeUsage) -> None:
    assert usage_table([a_usage(status="pending")]).splitlines()[1].split()[3:7] == ["-", "1", "-", "-"]


def test_a_long_name_is_cut(a_usage: MakeUsage) -> None:
    assert f"{'n' * 29}… " in usage_table([a_usage(name="n" * 200)])


def test_no_vm_at_all_is_a_table_of_its_head() -> None:
    assert len(usage_table([]).splitlines()) == 1


def test_the_sums_count_only_vms_that_are_there(a_usage: MakeUsage) -> None:
    line = total_line([a_usage(1.0, 300), a_usage(0.17, 100), a_usage()], 4)

    assert line == "2 VMs · CPU 117% of 4 cores · memory 400.0 MiB"
    assert total_line([a_usage(0.0, 1)], 1) == "1 VM · CPU 0% of 1 core · memory 1.0 MiB"


def test_what_fits_a_screen_stays_as_it_is() -> None:
    assert fitted(["abc", "de"], columns=4, rows=3) == ["abc", "de"]


def test_a_line_never_wraps() -> None:
    assert fitted(["abcdefgh"], columns=5, rows=10) == ["abc…"]


@pytest.mark.parametrize("rows", [3, 4, 10])
def test_a_long_table_never_scrolls_and_says_what_is_missing(rows: int) -> None:
    lines = fitted([f"line {number}" for number in range(20)], columns=40, rows=rows)

    assert len(lines) < rows
    assert lines[-1] == f"… and {20 - len(lines) + 1} more"


def test_json_is_that_of_a_job_and_its_sample(a_usage: MakeUsage) -> None:
    record = usage_json(a_usage(0.5, 1))

    assert (record["name"], record["exit"]) == ("hello", None)
    assert record["sample"] == {
        "time": 1e9, "cpu": 0.5, "seconds": 2.0, "cpu_seconds": 75.0, "memory": MIB
    }  # fmt: skip
    assert usage_json(a_usage())["sample"] is None
