from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.hypervisor.net.frames import HEADER, LONGEST, Malformed, Splitter


def wire(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(HEADER) + frame for frame in frames)


@given(frames=st.lists(st.binary(min_size=1, max_size=50), max_size=20), cuts=st.lists(st.integers(0, 1200)))
def test_frames_come_out_whole_wherever_the_stream_is_cut(frames, cuts):
    stream = wire(*frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = Splitter()
    found = [bytes(one) for a, b in itertools.pairwise(edges) for one in splitter.feed(stream[a:b])]
    assert found == [wire(frame) for frame in frames]


@pytest.mark.parametrize("size", [0, LONGEST + 1, 0xFFFFFFFF])
def test_a_length_that_no_frame_has_is_refused_after_the_frames_before_it(size):
    frames = Splitter().feed(wire(b"a") + size.to_bytes(HEADER))
    assert bytes(next(frames)) == wire(b"a")
    with pytest.raises(Malformed):
        next(frames)


def test_the_longest_frame_passes():
    [frame] = Splitter().feed(wire(b"x" * LONGEST))
    assert len(frame) == HEADER + LONGEST
