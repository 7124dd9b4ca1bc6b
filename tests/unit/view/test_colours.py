from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.view.colours import BLACK, WHITE, contrast, indexed, luminance, readable_on, tempered, web

BYTE = st.integers(0, 255)
COLOUR = st.tuples(BYTE, BYTE, BYTE)


@pytest.mark.parametrize(
    ("number", "colour"),
    [(1, "#cd0000"), (16, "#000000"), (21, "#0000ff"), (196, "#ff0000"), (231, "#ffffff"), (232, "#080808"),
     (255, "#eeeeee")],
)  # fmt: skip
def test_the_palette_is_that_of_terminals(number: int, colour: str) -> None:
    assert web(indexed(number)) == colour


def test_black_on_white_is_the_greatest_contrast() -> None:
    assert contrast(BLACK, WHITE) == pytest.approx(21)


@given(COLOUR, st.none() | COLOUR)
def test_text_can_be_read_on_any_background(background: tuple[int, int, int], wanted: tuple[int, int, int] | None):
    ink = readable_on(background, wanted)

    assert contrast(ink, background) >= 3
    assert wanted is None or contrast(wanted, background) < 3 or ink == wanted


@given(COLOUR)
def test_a_tempered_colour_is_neither_dark_nor_light(colour: tuple[int, int, int]) -> None:
    assert 0.08 <= luminance(tempered(colour)) <= 0.42
