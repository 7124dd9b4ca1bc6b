from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.view.ansi import ansi_to_html, ansi_to_text
from magpie_local.view.plain import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.view.conftest import Page

    Read = Callable[[str], Page]

ANY = st.text(st.characters(codec=None, exclude_categories=()))
#: Pieces that mean something to terminals or to browsers, so that random text is full of them.
PIECES = st.sampled_from([
    "\x1b", "\x1b[", "\x9b", "\x1b]", "\x1b]8;;http://x\x07", "\x1b\\", "\x9c", "\x1bP", "\x07", "m", ";", ":", "38;5;",
    "48;2;1;2;3", "31", "0", "7", "1", "4:3", "?25l", "\x1b[2J", "\x1b[1;1H", "<", ">", "&", "'", '"', "<script>",
    "</pre>", "</span>", "<!--", "&lt;", "\x00", "\u202e", "\ud800", "\n", "\r", "\t", "word ", "999999999999",
])  # fmt: skip
HOSTILE = st.lists(PIECES | ANY, max_size=40).map("".join)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("a < b & 'c' \"d\"", "a &lt; b &amp; &#x27;c&#x27; &quot;d&quot;"),
        ("\x1b[31mred\x1b[0m.", "<span class='ax a1'>red</span>."),
        ("\x1b[1;92mok\x1b[m", "<span class='ab ax a10'>ok</span>"),
        ("\x1b[31mone\x1b[31m two\x1b[39m three", "<span class='ax a1'>one two</span> three"),
        ("\x1b[1;2;3;4;9mx\x1b[22;23;24;29my", "<span class='ab ad ai au as'>x</span>y"),
        ("\x1b[4:3mx\x1b[4:0my", "<span class='au'>x</span>y"),
        ("\x1b[7mx\x1b[27my", "<span class='av'>x</span>y"),
        ("\x1b[38;5;1mx", "<span class='ax a1'>x</span>"),
        ("\x1b[38;5;208mx", "<span class='ax' style='--c:#ff8700'>x</span>"),
        ("\x1b[38:2::100:120:200mx", "<span class='ax' style='--c:#6478c8'>x</span>"),
        ("\x1b[38:2:100:120:200mx", "<span class='ax' style='--c:#6478c8'>x</span>"),
        (
            "\x1b[37;41mx\x1b[49my",
            "<span style='color:#e5e5e5;background:#cd0000'>x</span><span class='ax a7'>y</span>",
        ),
        ("\x1b[7;31mx", "<span style='color:#ffffff;background:#cd0000'>x</span>"),
        ("\x1b[7;44mx", "<span class='ax a4'>x</span>"),
        ("\x1b[58;5;1;1mx", "<span class='ab'>x</span>"),
        ("\x1b[38;5mx", "x"),
        ("\x1b[38;2;1;2mx", "x"),
        ("\x1b[38;5;256;1mx", "<span class='ab'>x</span>"),
        ("\x1b[>4;2mx\x1b[?31my", "xy"),
        ("\x1b[31mred\nnext", "<span class='ax a1'>red</span>\nnext"),
    ],
)
def test_colours_are_spans_and_close_at_the_line_end(text: str, html: str) -> None:
    assert ansi_to_html(text) == html


@pytest.mark.parametrize(
    "order",
    [
        "\x1b[2J", "\x1b[1;1H", "\x1b[?25l", "\x1b[K", "\x9b31m", "\x1b]0;title\x07", "\x1b]8;;http://evil\x1b\\",
        "\x1bPpayload\x1b\\", "\x1b_apc\x9c", "\x1b(B", "\x1b7", "\x1bc", "\x1b[5;5r", "\x1b[38;5;1m", "\x1b[6n",
    ],
)  # fmt: skip
def test_no_order_to_the_terminal_is_left(order: str) -> None:
    assert ansi_to_text(f"a{order}b") == "ab"


@pytest.mark.parametrize("rest", ["\x1b", "\x1b[", "\x1b[31", "\x1b[31;", "\x1b]0;title", "\x1bPdata", "\x9b1"])
def test_an_unfinished_order_ends_with_its_line(rest: str) -> None:
    assert ansi_to_html(f"a{rest}\nb") == "a\nb"


def test_text_on_its_own_colour_can_still_be_read() -> None:
    assert ansi_to_html("\x1b[31;41mhidden") == "<span style='color:#ffffff;background:#cd0000'>hidden</span>"


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(HOSTILE)
def test_whatever_a_job_writes_stays_text(read: Read, text: str) -> None:
    page = read(f"<pre>{ansi_to_html(text)}</pre>")

    # html.parser, as browsers do, drops one line feed right after <pre>: none is lost here, since it is python's.
    assert page.output == ansi_to_text(text)
    assert {tag for tag, _ in page.tags} <= {"pre", "span"}
    assert page.output.count("\n") == text.count("\n")


@given(st.text(st.characters(exclude_characters="\x1b\x90\x98\x9b\x9d\x9e\x9f", exclude_categories=["Cs"])))
def test_text_without_orders_is_only_escaped(text: str) -> None:
    assert ansi_to_html(text) == escape(visible(text))


def test_each_character_alone_is_escaped_or_shown_as_a_sign() -> None:
    orders = set("\x1b\x90\x98\x9b\x9d\x9e\x9f")

    assert [
        one for one in map(chr, range(0x10000)) if one not in orders and ansi_to_html(one) != escape(visible(one))
    ] == []


@pytest.mark.parametrize("piece", ["\x1b[", "\x1b]", "\x1b[1;", "1;", "\x1b[31m", "\x1b[0", "\x1bP\x1b", ":;", "\x1b("])
def test_the_time_is_linear_in_the_text(piece: str) -> None:
    begun = time.perf_counter()

    ansi_to_html("\x1b[" + piece * 20_000 + "m")

    assert time.perf_counter() - begun < 5
