"""Both readers of the wire format, on what a friend and what an enemy sends."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_local.domain.frames import (
    CONTROL_HEADER,
    LOG_HEADER,
    LOG_KINDS,
    MAX_PAYLOAD,
    MESSAGE,
    STDOUT,
    ControlReader,
    FrameError,
    LogReader,
    blob_frames,
    log_frame,
    message_frame,
    pack,
    unpack,
)

log_frames = st.lists(
    st.tuples(st.sampled_from(sorted(LOG_KINDS)), st.integers(0, 2**64 - 1), st.binary(max_size=60)), max_size=8
)
items = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=60),
        st.dictionaries(
            st.text(max_size=5),
            st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=3),
            max_size=3,
        ),
    ),
    max_size=8,
)
borders = st.lists(st.integers(0, 800), max_size=12)


@settings(deadline=None)
@given(frames=log_frames, at=borders)
def test_log_frames_come_out_as_they_went_in_wherever_they_are_cut(frames, at):
    stream = b"".join(log_frame(*frame) for frame in frames)
    reader = LogReader()
    assert [frame for chunk in _cut(stream, at) for frame in reader.feed(chunk)] == frames
    assert reader.consumed == len(stream)


@settings(deadline=None)
@given(sent=items, at=borders)
def test_messages_and_blobs_come_out_as_they_went_in_wherever_they_are_cut(sent, at):
    stream = b"".join(message_frame(item) if isinstance(item, dict) else blob_frames(item)[0] for item in sent)
    reader = ControlReader()
    assert [item for chunk in _cut(stream, at) for item in reader.feed(chunk)] == sent


def test_every_single_border_is_harmless():
    stream = log_frame(STDOUT, 1, b"one") + log_frame(STDOUT, 2, b"") + log_frame(STDOUT, 3, b"three")
    for at in range(len(stream) + 1):
        reader = LogReader()
        assert [payload for _, _, payload in reader.feed(stream[:at]) + reader.feed(stream[at:])] == [
            b"one", b"", b"three",
        ]  # fmt: skip


@settings(deadline=None)
@given(st.binary(max_size=300), borders)
def test_any_bytes_are_frames_or_a_frame_error(data, at):
    for reader in (LogReader(), ControlReader()):
        try:
            found = [item for chunk in _cut(data, at) for item in reader.feed(chunk)]
        except FrameError:
            continue
        assert len(found) <= len(data)


@pytest.mark.parametrize(
    ("length", "kind"), [(MAX_PAYLOAD + 1, STDOUT), (2**32 - 1, STDOUT), (0, 0), (0, max(LOG_KINDS) + 1), (5, 255)]
)
def test_an_impossible_log_header_is_refused_at_once(length, kind):
    with pytest.raises(FrameError):
        LogReader().feed(LOG_HEADER.pack(length, kind, 0))


def test_a_message_above_the_readers_limit_is_refused_before_it_is_kept():
    with pytest.raises(FrameError):
        ControlReader(max_message=100).feed(CONTROL_HEADER.pack(101, MESSAGE))


@pytest.mark.parametrize("payload", [b"s", b"\xff", b"{}" * 9, b"x\0\0\0\0\0", b"i\0\x01\0\0\0x"], ids=repr)
def test_what_is_no_message_is_refused(payload):
    with pytest.raises(FrameError):
        ControlReader().feed(CONTROL_HEADER.pack(len(payload), MESSAGE) + payload)


KEYS = st.text(max_size=20)
FLAT = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(KEYS, FLAT | st.dictionaries(KEYS, FLAT, max_size=3), max_size=6))
def test_a_message_is_unpacked_as_it_was_packed(message):
    assert unpack(pack(message)) == message


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_refused(data):
    with suppress(FrameError):
        assert unpack(data) is not None


def test_a_message_that_is_nested_without_end_is_refused():
    message: dict[str, object] = {}
    for _ in range(10):
        message = {"m": message}
    with pytest.raises(FrameError):
        unpack(pack(message))


def test_blobs_are_cut_at_the_largest_payload():
    data = bytes(MAX_PAYLOAD) + b"rest"
    assert ControlReader().feed(b"".join(blob_frames(data))) == [bytes(MAX_PAYLOAD), b"rest"]


def _cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(stream)) for place in at), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]
