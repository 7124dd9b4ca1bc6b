"""Secrets in the output: none comes through, however it is cut, and nothing else is touched."""

from __future__ import annotations

import base64
import json
import re
import time
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from magpie_local.domain import secret as domain
from magpie_local.domain.frames import STDERR, STDOUT
from magpie_local.guest.agent.forms import MIN_MASKED, foldable, forms
from magpie_local.guest.agent.masking import MASK, Masking

#: Of few letters, so that they overlap with themselves, with each other and with the text.
_few = st.sampled_from([b"a", b"b", b"ab"])
_words = st.lists(_few, min_size=4, max_size=9).map(b"".join)
_texts = st.lists(_few | _words | st.just(b"\n"), max_size=60).map(b"".join)


#: The same with line breaks of both kinds, often single ones.
_folded = st.lists(_few | st.sampled_from([b"\n", b"\r\n", b"\r", b"\0"]), max_size=60).map(b"".join)


def reference(text: bytes, secrets: list[bytes], folded: list[bytes] | None = None) -> bytes:
    """Mask a whole text, the plain way."""
    patterns = {re.escape(secret) for secret in secrets}
    patterns |= {rb"(?:\r?\n)?".join(bytes([byte]) for byte in secret) for secret in folded or ()}
    found = sorted(
        match.span()
        for pattern in patterns
        for at in range(len(text))
        if (match := re.compile(pattern).match(text, at))
    )
    result, done = b"", 0
    for start, end in found:
        if start >= done or not done:
            result += text[done:start] + MASK
        done = max(done, end)
    return result + text[done:]


def cut(text: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@given(secrets=st.lists(_words, min_size=1, max_size=4), text=_texts, places=st.lists(st.integers(0, 999), max_size=20))
@example(secrets=[b"aaaa"], text=b"a" * 50, places=list(range(50)))
@example(secrets=[b"abab", b"babababa"], text=b"aababababab", places=[3, 5, 7])
@settings(max_examples=600)
def test_a_stream_is_masked_as_the_whole_text_is_wherever_it_is_cut(secrets, text, places):
    masking = Masking(secrets)
    longest = max(map(len, secrets))
    shown, fed = b"", 0
    for part in cut(text, places):
        shown += masking.feed(part)
        fed += len(part)
        assert len(masking._tail) < longest
    assert shown + masking.finish() == reference(text, secrets)


@given(
    secrets=st.lists(_words, max_size=2), folded=st.lists(_words, min_size=1, max_size=3), text=_folded,
    places=st.lists(st.integers(0, 999), max_size=20),
)  # fmt: skip
@example(secrets=[], folded=[b"aaaa"], text=b"\na\na\r\na\n\na\na\n\r\naa\r\n\naa\ra\n", places=list(range(40)))
@example(secrets=[b"abab"], folded=[b"abab", b"bbbb"], text=b"ab\r\na\r\nbb\nb\nb", places=[4, 5, 9])
@settings(max_examples=1500)
def test_what_may_be_folded_is_found_across_single_line_breaks_wherever_it_is_cut(secrets, folded, text, places):
    masking = Masking([*secrets, *folded], folded)
    longest = max(map(len, [*secrets, *folded]))
    shown = b""
    for part in cut(text, places):
        shown += masking.feed(part)
        assert len(masking._tail) < 3 * longest
    assert shown + masking.finish() == reference(text, secrets, folded)


@given(
    secrets=st.lists(_words, min_size=1, max_size=4), text=_texts,
    places=st.lists(st.integers(0, 999), max_size=20), pauses=st.lists(st.booleans(), min_size=22, max_size=22),
)  # fmt: skip
@settings(max_examples=600)
def test_pauses_show_at_most_the_first_three_bytes_of_a_secret(secrets, text, places, pauses):
    masking = Masking(secrets)
    shown = b""
    for part, pause in zip(cut(text, places), pauses, strict=False):
        shown += masking.feed(part)
        if pause:
            shown += masking.release()
    shown += masking.finish()
    # What is left between two masks is in the text, and of a secret there is but a beginning.
    whole = reference(text, secrets)
    assert shown.count(MASK) == whole.count(MASK)
    for mine, plain in zip(shown.split(MASK), whole.split(MASK), strict=True):
        sizes = range(min(3, len(mine) - len(plain)) + 1)
        pairs = [(mine[:size], mine[size + len(plain) :]) for size in sizes if mine[size:].startswith(plain)]
        assert any(_is_beginning(before, secrets) and _is_beginning(after, secrets) for before, after in pairs)


def _is_beginning(part: bytes, secrets: list[bytes]) -> bool:
    """Return whether it tells no more than the first three bytes of a secret do."""
    return any(part in secret[:3] for secret in secrets)


def test_a_stream_without_secrets_is_held_back_nowhere():
    masking = Masking([b"secret"])
    assert masking.feed(b"a prompt? ") == b"a prompt? "
    assert not masking.holds
    assert masking.feed(b"yes") == b"ye"
    assert masking.feed(b"se") == b"s"
    assert masking.release() == b"se"
    assert masking.feed(b"cret!") == b"***!"


@given(
    value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=20).filter(
        lambda value: len(value.strip()) >= 4
    ),
    before=st.binary(max_size=4), after=st.binary(max_size=4),
)  # fmt: skip
@settings(max_examples=300)
def test_every_form_of_a_secret_is_masked(value, before, after):
    secret = value.encode()
    masked = forms([value])

    def shows(text: bytes) -> bytes:
        return Masking(masked).feed(text + b"\n")

    for form in (
        secret, secret.hex().encode(), secret.hex().upper().encode(), quote(value).encode(),
        quote(value, safe="").encode(), quote_plus(value).encode(), json.dumps(value)[1:-1].encode(),
        json.dumps(value, ensure_ascii=False)[1:-1].encode(),
    ):  # fmt: skip
        assert MASK in shows(before + form + after + b"\n")
        assert form not in shows(before + form + after + b"\n").replace(MASK, b"\0")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert MASK in shows(encode(before + secret + after))


@pytest.mark.parametrize("width", [1, 2, 5, 60, 64, 76])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("before", range(0, 60, 7))
def test_an_encoded_secret_is_masked_across_the_lines_that_it_is_broken_into(width, ending, before):
    secret = "correct horse battery staple"
    whole = base64.b64encode(b"x" * before + secret.encode() + b"y" * 50)
    in_hex = (b"x" * before + secret.encode() + b"y" * 50).hex().encode()
    for encoded in (whole, in_hex):
        lines = ending.join(encoded[at : at + width] for at in range(0, len(encoded), width)) + ending
        masking = Masking(forms([secret]), foldable([secret]))
        shown = b"".join(masking.feed(lines[at : at + 7]) for at in range(0, len(lines), 7)) + masking.finish()
        kept = shown.replace(ending, b"")
        assert kept.count(MASK) == 1
        assert all(part in encoded for part in kept.split(MASK))
        # Of the secret's own characters one at each end may be left.
        assert len(kept) - len(MASK) <= len(encoded) - (36 if encoded is whole else 56)


def test_a_line_that_ends_like_a_secret_begins_is_shown_when_nothing_follows():
    masking = Masking([b"abcdef"], [b"abcdef"])
    assert masking.feed(b"line ab\r\n") == b"line "
    assert masking.holds
    assert masking.release() == b"ab\r\n"
    assert masking.feed(b"cd\n\n") == b"cd\n\n"


def test_base64_keeps_at_most_a_character_at_each_end():
    secret = "correct horse battery"
    for before in (b"", b"x", b"xy", b"xyz"):
        text = base64.b64encode(before + secret.encode() + b"zz")
        left = Masking(forms([secret])).feed(text + b"\n").split(MASK)
        assert len(left[0]) <= 3 + 4 * (len(before) // 3)
        assert len(b"".join(left)) <= len(text) - 26


def test_what_is_short_is_not_masked():
    assert forms(["abc"]) == []
    assert MIN_MASKED == domain.MIN_MASKED
    assert domain.MASK.encode() == MASK


def test_the_script_can_say_no_secret_in_any_stream(agent, client):
    value = 'p@ss"wörd/1'
    client.run(
        b"echo $SECRET; echo -n ${SECRET:0:5}; sleep 0.02; echo -n ${SECRET:5}; echo; echo $SECRET >&2;"
        b"echo -n $SECRET | base64; echo -n $SECRET | od -An -tx1 | tr -d ' \\n'; echo; echo last $SECRET",
        env={"SECRET": value, "PATH": "/usr/bin:/bin"}, mask=[value, "abc"],
    )  # fmt: skip
    assert agent.exit().code == 0
    assert agent.output(STDERR) == b"***\n"
    *lines, in_base64, in_hex, last, end = agent.output(STDOUT).split(b"\n")
    assert (lines, in_hex, last, end) == ([b"***", b"***"], b"***", b"last ***", b"")
    assert in_base64.startswith(b"***")
    assert value.encode() not in agent.log.read_bytes()


def test_what_base64_breaks_into_lines_is_masked(agent, client):
    value = "a secret of fifty characters, to be broken in two."
    client.run(
        b"for n in {0..30}; do (printf '%*s' $n ''; echo -n $SECRET; printf '%*s' 90 '') | base64; done; "
        b"(printf '%*s' 20 ''; echo -n $SECRET) | od -An -v -tx1 | tr -d ' \\n' | fold -w 60; echo",
        env={"SECRET": value, "PATH": "/usr/bin:/bin"}, mask=[value],
    )  # fmt: skip
    assert agent.exit().code == 0
    shown = agent.output(STDOUT)
    assert shown.count(MASK) == 32
    flat = shown.replace(b"\n", b"")
    assert not [form for form in foldable([value[:20], value[20:40], value[-20:]]) if form in flat]


def test_a_prompt_is_not_held_back_and_a_slow_secret_is(agent, client):
    client.run(
        b"echo -n 'who? se'; until [ -e go ]; do sleep 0.01; done; echo -n 'se'; sleep 0.2; echo cret; echo -n secr;"
        b"until [ -e on ]; do sleep 0.01; done; echo x",
        mask=["secret"],
    )
    agent.wait_for(b"who? se")
    (agent.home / "go").touch()
    agent.wait_for(b"se***\n")
    time.sleep(0.2)
    assert agent.output() == b"who? sese***\n"
    (agent.home / "on").touch()
    agent.exit()
    assert agent.output() == b"who? sese***\nsecrx\n"


def test_output_that_ends_in_the_middle_of_a_secret_is_whole(agent, client):
    client.run(b"echo -n beginning of secre; echo -n s >&2", mask=["secret"])
    agent.exit()
    assert (agent.output(STDOUT), agent.output(STDERR)) == (b"beginning of secre", b"s")


@pytest.mark.parametrize("mask", ["secret", [1], {"a": "b"}])
def test_a_mask_that_is_none_is_refused(client, mask):
    client.send(
        op="run", attempt="a", nonce="n", timeout=None, env={}, log_limit=1, script_size=0, script_crc=0, now=1.5,
        entropy="", mask=mask,
    )  # fmt: skip
    answer = client.answer()
    assert (answer["op"], answer["to"]) == ("refused", "run")
    assert "secret" not in str(answer["message"])
