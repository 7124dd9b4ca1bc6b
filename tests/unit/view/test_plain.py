from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.view.plain import cut, one_line, visible

ANY = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Δ 日本語 ✓ 👩‍🔬", "plain, Δ 日本語 ✓ 👩‍🔬"),
        ("a\tb\nc", "a\tb\nc"),
        ("a\x00b\x07\x1b\x7f", "a^@b^G^[^?"),
        ("\x85\x9b", "\ufffd\ufffd"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        ("\u202egnp.exe\u2066\u200f", "[U+202E]gnp.exe[U+2066][U+200F]"),
        ("a\u2028b\u2029", "a[U+2028]b[U+2029]"),
    ],
)
def test_orders_are_shown_as_signs_and_letters_as_they_are(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY)
def test_what_is_visible_has_nothing_to_obey_and_can_be_written(text: str) -> None:
    shown = visible(text)

    shown.encode()
    assert {unicodedata.category(one) for one in shown} & {"Cc", "Cs"} <= {"Cc"}
    assert {one for one in shown if unicodedata.category(one) == "Cc"} <= {"\t", "\n"}
    assert not {unicodedata.bidirectional(one) for one in shown} & {"RLO", "LRO", "RLE", "LRE", "RLI", "LRI", "FSI"}
    assert visible(shown) == shown


@given(ANY, st.integers(1, 20))
def test_one_line_is_one_line_of_at_most_its_width(text: str, width: int) -> None:
    line = one_line(text, width)

    assert len(line) <= width
    assert len(line.splitlines()) <= 1


def test_what_is_cut_says_so() -> None:
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"
