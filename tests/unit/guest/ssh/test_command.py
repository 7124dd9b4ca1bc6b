from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.guest.ssh.command import GUARD, MAX_NOISE, mark, wrap
from magpie_local.guest.ssh.session import Kept, MarkFilter

NONCE = "0123456789abcdef"
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


NAMES = st.from_regex(r"V_[A-Z]{1,5}", fullmatch=True)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(2, 10**9), st.integers(1, 50))
def test_the_mark_is_found_however_the_output_is_cut_into_pieces(before, after, pid, size):
    line = mark(NONCE) + b"%d\n" % pid
    marks = MarkFilter(mark(NONCE))

    output = b"".join(map(marks.feed, split(before + line + after, size))) + marks.flush()

    assert output == before + after
    assert marks.pid == pid


@pytest.mark.parametrize("pid", [b"", b"0", b"1", b"-5", b"12345678901", b"5; reboot", "\u0665".encode()])
def test_a_process_id_that_is_none_is_not_believed(pid):
    marks = MarkFilter(mark(NONCE))

    marks.feed(mark(NONCE) + pid + b"\n")

    assert marks.pid is None


def test_output_without_a_mark_is_all_output():
    marks = MarkFilter(mark(NONCE))

    assert marks.feed(b"x" * MAX_NOISE) == b""
    assert marks.feed(b"y") == b"x" * MAX_NOISE + b"y"
    assert marks.feed(mark(NONCE) + b"5\n") == mark(NONCE) + b"5\n"


def test_what_is_kept_is_the_beginning():
    kept = Kept(5)
    for piece in (b"abc", b"def", b"g"):
        kept.add(piece)

    assert (kept.whole(), kept.truncated) == (b"abcde", True)


@pytest.mark.parametrize("shell", ["bash", "dash"])
@given(
    env=st.dictionaries(st.from_regex(r"V_[A-Z]{1,5}", fullmatch=True), TEXT, max_size=4), rest=st.binary(max_size=40)
)
def test_every_shell_reads_the_variables_and_leaves_the_input(shell, env, rest):
    wrapped = wrap(["sh", "-c", "env -0; cat"], env=env, nonce=NONCE)

    ended = subprocess.run([shell, "-c", wrapped.text], input=wrapped.preamble + rest, capture_output=True, check=True)

    output = ended.stdout.partition(b"\n")[2]
    assert output.endswith(rest)
    found = dict(pair.split("=", 1) for pair in output[: len(output) - len(rest)].decode().split("\0")[:-1])
    assert {name: value for name, value in found.items() if name.startswith("V_")} == env


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_guard_ends_those_that_are_still_there_and_no_others(shell):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stays:
        with subprocess.Popen(["sleep", "60"], start_new_session=True) as goes:
            words = f"+ {stays.pid}\n+ {goes.pid}\n- {stays.pid}\n".encode()
            guard = subprocess.run([shell, "-c", GUARD], input=words, capture_output=True, timeout=20)

            assert goes.wait(5) == -15
        assert stays.poll() is None
        stays.kill()
    assert guard.stdout == guard.stderr == b""
