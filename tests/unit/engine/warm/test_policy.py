"""Jobs come first, and the pool never takes what it was not given."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.shape import Shape
from magpie_local.engine.context import WarmOptions
from magpie_local.engine.warm.policy import (
    FORK_COST_MB,
    MAX_RECENT,
    RECENCY,
    RESERVE,
    Situation,
    is_short,
    lacking,
    shapes_to_serve,
)

A, B, C, D = (Shape(name, 1, 512) for name in "abcd")


def situation(**fields: Any) -> Situation:
    usual: dict[str, Any] = {
        "host_cpus": 2, "busy_cpus": 0, "starting": 0, "quiet": 10.0, "pooled": {}, "pool_mb": 0, "host_mb": 16000,
        "available_mb": 12000,
    }  # fmt: skip
    return Situation(**usual | fields)


def options(**fields: Any) -> WarmOptions:
    usual: dict[str, Any] = {"templates_size": 1, "pool": 2, "pool_memory_mb": 10 * FORK_COST_MB}
    return WarmOptions(**usual | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"starting": 1},
        {"busy_cpus": 2},
        {"quiet": 0.1},
        {"pool_mb": 10 * FORK_COST_MB},
        {"available_mb": int(16000 * RESERVE) + 2 * FORK_COST_MB - 1},
        {"pooled": {"a": 2}},
    ],
)
def test_no_fork_is_added_when(fields: dict[str, Any]) -> None:
    assert lacking(situation(), ["a"], options()) == ["a"]
    assert lacking(situation(**fields), ["a"], options()) == []


def test_a_host_with_one_cpu_fills_its_pool_while_nothing_runs() -> None:
    assert lacking(situation(host_cpus=1), ["a"], options()) == ["a"]
    assert lacking(situation(host_cpus=1, busy_cpus=1), ["a"], options()) == []


def test_the_least_provided_comes_first_and_the_first_named_wins_a_tie() -> None:
    assert lacking(situation(pooled={"a": 1}), ["a", "b"], options()) == ["b", "a"]
    assert lacking(situation(pooled={"a": 1, "b": 1}), ["a", "b"], options()) == ["a", "b"]


def test_memory_is_short_when_the_reserve_is_touched() -> None:
    reserve = int(16000 * RESERVE)
    assert not is_short(situation(available_mb=reserve))
    assert is_short(situation(available_mb=reserve - 1))


def test_shapes_that_were_named_count_alone_and_once() -> None:
    assert shapes_to_serve([B, A, B], [(C, 100.0)], 100.0) == [B, A]


def test_otherwise_those_used_lately_the_newest_first() -> None:
    used = [(A, 10.0), (B, 30.0), (C, 20.0), (D, 40.0), (A, 5.0)]
    assert shapes_to_serve([], used, 50.0) == [D, B, C][:MAX_RECENT]
    assert shapes_to_serve([], [(A, 10.0)], 10.0 + RECENCY) == []


@given(
    st.integers(0, 100_000), st.integers(0, 100_000), st.integers(0, 64), st.integers(0, 5000),
    st.lists(st.sampled_from("abc"), max_size=20),
)  # fmt: skip
def test_whatever_the_situation_the_budgets_hold(
    available: int, budget: int, count: int, used: int, pooled: list[str]
) -> None:
    counts = Counter(pooled)
    now = situation(available_mb=available, pool_mb=used, pooled=counts)
    found = lacking(now, ["a", "b", "c"], options(pool=count, pool_memory_mb=budget))
    assert all(counts[key] < count for key in found)
    if found:
        assert used + FORK_COST_MB <= budget
        assert available - FORK_COST_MB >= 16000 * RESERVE
    assert not (found and is_short(now))
