from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from magpie_local import LogChunk
from magpie_local.cli.logs import length_before, of_stream, without

if TYPE_CHECKING:
    from collections.abc import Callable

pieces = st.lists(st.text("ab\n", max_size=6).map(str.encode), max_size=12)


def chunks_of(parts: list[bytes]) -> list[LogChunk]:
    return [LogChunk(time=0, stream="stdout", data=part, text=part.decode()) for part in parts]


@given(parts=pieces, lines=st.integers(0, 8))
def test_the_tail_is_the_last_lines_wherever_chunks_are_cut(parts: list[bytes], lines: int) -> None:
    whole = b"".join(parts).splitlines(keepends=True)
    chunks = chunks_of(parts)

    tail = b"".join(chunk.data for chunk in without(chunks, length_before(chunks, lines)))

    assert tail == b"".join(whole[max(0, len(whole) - lines) :])


def test_notes_count_as_no_lines(a_chunk: Callable[..., LogChunk]) -> None:
    chunks = [a_chunk(b"1\n"), a_chunk(b"2\n"), a_chunk(b"\n\n\n", stream="note"), a_chunk(b"3\n")]

    tail = list(without(chunks, length_before(chunks, 2)))

    assert tail == chunks[1:]


def test_one_stream_can_be_chosen(a_chunk: Callable[..., LogChunk]) -> None:
    chunks = [a_chunk(b"out"), a_chunk(b"err", stream="stderr")]

    assert [chunk.data for chunk in of_stream(chunks, "stderr")] == [b"err"]
    assert list(of_stream(chunks, None)) == chunks
