from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from magpie_local.domain.metrics import Reading, sample_of
from magpie_local.domain.procfs import parse_private, parse_stat

#: As the kernel writes it, with a name that tries to pass for the fields after it.
STAT = (
    "17590 (qemu) R 9 (x) S 17587 17587 17587 0 -1 138412416 23412 0 13 0 470 72 11 7 20 0 7 0 3938088 1004785664 "
    "69042 18446744073709551615"
)


def a_reading(**fields: float) -> Reading:
    usual = {"at": 100.0, "age": 20.0, "cpu_seconds": 5.0, "memory": 300}
    return Reading(**usual | fields)  # type: ignore[arg-type]


def test_a_first_sample_is_of_the_vms_life_so_far():
    sample = sample_of(a_reading(), None, 1e9)

    assert (sample.cpu, sample.seconds, sample.cpu_seconds, sample.memory, sample.time) == (0.25, 20.0, 5.0, 300, 1e9)


def test_the_next_one_is_of_the_time_since():
    sample = sample_of(a_reading(at=104.0, age=24.0, cpu_seconds=11.0, memory=200), a_reading(), 1e9)

    assert (sample.cpu, sample.seconds, sample.cpu_seconds, sample.memory) == (1.5, 4.0, 11.0, 200)


@pytest.mark.parametrize("before", [None, a_reading(age=0.0)])
def test_no_time_at_all_is_no_use(before):
    assert sample_of(a_reading(age=0.0), before, 0.0).cpu == 0.0


def test_a_counter_that_goes_back_is_no_negative_use():
    assert sample_of(a_reading(at=101.0, cpu_seconds=4.9), a_reading(), 0.0).cpu == 0.0


def test_a_sample_is_plain_as_json():
    assert sample_of(a_reading(), None, 7.0).to_json() == {
        "time": 7.0, "cpu": 0.25, "seconds": 20.0, "cpu_seconds": 5.0, "memory": 300
    }  # fmt: skip


def test_a_programs_name_does_not_pass_for_its_fields():
    stat = parse_stat(STAT)

    assert (stat.cpu, stat.children_cpu, stat.started) == (542, 18, 3938088)


def test_our_own_process_is_as_the_kernel_says():
    spent = parse_stat(Path("/proc/self/stat").read_text()).cpu / os.sysconf("SC_CLK_TCK")

    assert spent == pytest.approx(time.process_time(), abs=0.1)


@pytest.mark.parametrize("text", ["", "17590 (qemu) S 1", "no (stat) " + "x " * 30])
def test_what_is_no_stat_is_refused(text):
    with pytest.raises(ValueError, match="no /proc/PID/stat"):
        parse_stat(text)


def test_sizes_are_bytes():
    assert parse_private("VmRSS:\t  99 kB\nRssAnon:\t      42 kB\nRssFile:\t 57 kB\n") == 42 * 1024


def test_a_process_that_has_ended_has_no_sizes():
    assert parse_private("Name:\tqemu\nState:\tZ (zombie)\n") is None
