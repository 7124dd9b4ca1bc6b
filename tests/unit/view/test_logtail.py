from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local import LogChunk
from magpie_local.errors import InvalidInput
from magpie_local.view.logtail import Line, LogTail

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT = st.text(st.sampled_from("ab\n\r\x1b\x00\u202eé"), max_size=60)
STREAMS = st.sampled_from(["stdout", "stderr"])


def fed(pieces: Iterable[tuple[str, str]], lines: int = 200, width: int = 2000) -> LogTail:
    tail = LogTail(lines, width=width)
    for stream, text in pieces:
        tail.feed(LogChunk(time=0.0, stream=stream, data=b"", text=text))
    return tail


def texts(*pieces: str, lines: int = 200, width: int = 2000) -> list[str]:
    return [line.text for line in fed((("stdout", piece) for piece in pieces), lines, width).lines]


def as_a_reader(text: str) -> list[str]:
    """Return what a whole output's lines are, as the plainest program has it."""
    lines = text.split("\n")
    whole = lines[:-1] if lines[-1] == "" else lines
    return [line.rstrip("\r").rpartition("\r")[2] for line in whole]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["one\ntwo\n"], ["one", "two"]),
        (["on", "e\ntw", "o"], ["one", "two"]),
        (["\n\n"], ["", ""]),
        (["windows\r\nlines\r\n"], ["windows", "lines"]),
        (["windows\r", "\nlines\r", "\n"], ["windows", "lines"]),
        (["10%\r20%\r30%"], ["30%"]),
        (["10%\r", "20%\r"], ["20%"]),
        (["10%\r20%\ndone\n"], ["20%", "done"]),
        (["10%\r\r\r", "20%"], ["20%"]),
        ([""], []),
    ],
)
def test_lines_are_what_a_terminal_would_leave(pieces: list[str], lines: list[str]) -> None:
    assert texts(*pieces) == lines


@given(st.lists(TEXT, max_size=8))
def test_how_output_is_cut_into_pieces_makes_no_difference(pieces: list[str]) -> None:
    assert texts(*pieces) == as_a_reader("".join(pieces))


@given(st.lists(st.tuples(STREAMS, TEXT), max_size=12), st.integers(1, 5), st.integers(1, 8))
def test_no_more_is_kept_than_asked_and_nothing_is_lost_uncounted(
    pieces: list[tuple[str, str]], lines: int, width: int
) -> None:
    whole, tail = fed(pieces), fed(pieces, lines, width)

    assert len(tail.lines) == min(lines, len(whole.lines))
    assert len(tail.lines) + tail.dropped == len(whole.lines)
    assert all(len(line.text) <= width for line in tail.lines)


@given(TEXT, st.integers(1, 8))
def test_of_a_long_line_the_rest_is_counted(text: str, width: int) -> None:
    whole, tail = fed([("stdout", text)]), fed([("stdout", text)], width=width)

    for line, cut in zip(whole.lines, tail.lines, strict=True):
        assert cut.text == line.text[:width]
        assert len(cut.text) + cut.cut == len(line.text)


def test_a_line_grows_in_its_place_while_another_stream_writes() -> None:
    tail = fed([("stdout", "working..."), ("stderr", "careful\n"), ("stdout", " done\n")])

    assert tail.lines == (Line("working... done", "stdout"), Line("careful", "stderr"))


def test_a_line_that_was_pushed_out_and_goes_on_is_shown_again() -> None:
    tail = fed([("stdout", "half"), ("stderr", "a\nb\nc\n"), ("stdout", " whole\n")], lines=2)

    assert [line.text for line in tail.lines] == ["c", "half whole"]
    assert tail.dropped == 2


def test_a_note_is_one_line_whatever_line_feeds_it_has() -> None:
    tail = fed([("stdout", "x\n"), ("note", "\n[dropped]\n"), ("note", "again")])

    assert tail.lines == (Line("x"), Line("[dropped]", "note"), Line("again", "note"))


def test_of_a_huge_line_the_beginning_is_kept_and_the_rest_counted() -> None:
    tail = fed([("stdout", "x" * 1500), ("stdout", "y" * 1_000_000), ("stdout", "z\n")])

    assert tail.lines == (Line("x" * 1500 + "y" * 500, "stdout", 999_501),)


def test_a_carriage_return_forgets_what_was_cut() -> None:
    assert fed([("stdout", "x" * 20 + "\rnew")], width=10).lines == (Line("new"),)


def test_a_huge_piece_leaves_its_end() -> None:
    tail = fed([("stdout", "open"), ("stdout", "\n".join(map(str, range(500_000))))], lines=3)

    assert [line.text for line in tail.lines] == ["499997", "499998", "499999"]
    assert tail.dropped == 499_997


def test_no_line_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match="lines: 0"):
        LogTail(0)
