from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.view.sparkline import sparkline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.view.conftest import Page

    Read = Callable[[str], Page]


def points(page: Page, width: int = 100) -> list[tuple[float, float]]:
    pairs = page.of("polyline")[0]["points"].split()
    around = [(float(x), float(y)) for x, y in (pair.split(",") for pair in pairs)]
    # The first two and the last two are outside: they close the area below the curve.
    assert {x < 0 or x > width for x, _ in (*around[:2], *around[-2:])} == {True}
    return around[2:-2]


def test_a_curve_goes_from_left_to_right_and_up_with_its_values(read: Read) -> None:
    curve = points(read(sparkline([0, 1, 2], 100, 20)))

    assert curve == [(1.5, 18.5), (50.0, 10.0), (98.5, 1.5)]


def test_the_top_is_the_scale_unless_a_sample_is_above_it(read: Read) -> None:
    assert points(read(sparkline([1, 1], 100, 20, top=2.0)))[0][1] == 10.0
    assert points(read(sparkline([1, 4], 100, 20, top=2.0)))[1][1] == 1.5


def test_one_sample_is_a_level_line(read: Read) -> None:
    assert points(read(sparkline([1], 100, 20))) == [(1.5, 1.5)]


def test_a_peak_among_many_samples_is_not_lost(read: Read) -> None:
    values = [0.0] * 10_000
    values[4321] = 1.0

    curve = points(read(sparkline(values, 100, 20)))

    assert len(curve) == 33
    assert min(y for _, y in curve) == 1.5


def test_the_label_is_text_for_those_who_see_it_and_those_who_do_not(read: Read) -> None:
    html = sparkline([1, 2], label="CPU <50 %> & 'more'")
    svg = read(html).of("svg")[0]

    assert svg["role"] == "img"
    assert svg["aria-label"] == "CPU <50 %> & 'more'"
    assert "<title>CPU &lt;50 %&gt; &amp; &#x27;more&#x27;</title>" in html


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf, 1.0], [-5.0], [0.0, 0.0], [1e308, 1e308]])
def test_odd_samples_make_a_curve_inside_its_frame(read: Read, values: list[float]) -> None:
    assert all(0 <= x <= 100 and 0 <= y <= 20 for x, y in points(read(sparkline(values, 100, 20))))


@given(st.lists(st.floats(), max_size=300), st.integers(10, 300), st.integers(10, 60))
def test_a_curve_never_leaves_its_frame(read: Read, values: list[float], width: int, height: int) -> None:
    curve = points(read(sparkline(values, width, height)), width)

    assert all(0 <= x <= width and 0 <= y <= height for x, y in curve)
    assert len(curve) <= max(2, width // 3)
