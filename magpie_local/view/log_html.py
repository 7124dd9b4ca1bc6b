"""The end of a job's output as HTML within a budget of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from magpie_local.view.ansi import ansi_to_html, ansi_to_text
from magpie_local.view.logtail import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magpie_local.view.logtail import Line

#: Bytes that the lines of one view take at most: with its head and style it stays below 60 KB.
BUDGET = 40_000
_CLASSES = {"stderr": "e", "note": "n"}
#: Bytes that a group of lines takes besides them.
_GROUP = 40


@dataclass(frozen=True, slots=True)
class LogHtml:
    """Lines as HTML: the inside of a `pre`, every line with its line feed."""

    html: str
    #: How many lines it shows.
    count: int

    @property
    def coloured(self) -> bool:
        """Whether the rules of colours are needed. Quotes of the output itself are escaped."""
        return " class='a" in self.html


def log_html(lines: Sequence[Line], budget: int = BUDGET) -> LogHtml:
    """Return as many of the last lines as fit into `budget` bytes, at least one where there is one.

    Lines of stderr and notes stand in groups of their own, marked by a bar at their side and by a tooltip. Where all
    does not fit, the most colourful lines lose their colours first: text is worth more.
    """
    shown = [_line_html(line) for line in lines]
    if sum(map(_size, shown)) > budget:
        share = budget // len(lines)
        shown = [
            html if _size(html) <= share else escape(line_text(line)) for line, html in zip(lines, shown, strict=True)
        ]
    count = _fitting([line.stream for line in lines], shown, budget)
    fitting = list(zip(lines, shown, strict=True))[len(lines) - count :]
    groups = groupby(fitting, key=lambda one: one[0].stream)
    return LogHtml("".join(_group(stream, [html for _, html in group]) for stream, group in groups), count)


def _fitting(streams: Sequence[str], shown: Sequence[str], budget: int) -> int:
    """Return how many of the last lines fit."""
    count, before = 0, None
    for stream, html in zip(reversed(streams), reversed(shown), strict=True):
        budget -= _size(html) + (_GROUP if stream != before else 0)
        if budget < 0 and count:
            break
        count, before = count + 1, stream
    return count


def log_text(lines: Sequence[Line], budget: int = BUDGET) -> list[str]:
    """Return as many of the last lines as fit into `budget` bytes as plain text, at least one where there is one."""
    shown = [line_text(line) for line in lines]
    return shown[len(shown) - _fitting([""] * len(shown), shown, budget) :]


def line_text(line: Line) -> str:
    """Return a line without terminal escapes, and with what was cut off told."""
    return ansi_to_text(_kept(line)) + _rest(line)


def _line_html(line: Line) -> str:
    return ansi_to_html(_kept(line)) + _rest(line)


def _kept(line: Line) -> str:
    """Return what is shown of a line: a line feed in it would make two."""
    return line.text[:WIDTH].replace("\n", "\r")


def _size(html: str) -> int:
    return (len(html) if html.isascii() else len(html.encode())) + 1


def _rest(line: Line) -> str:
    missing = line.cut + max(0, len(line.text) - WIDTH)
    return f" … ({missing:,} more characters)" if missing else ""


def _group(stream: str, lines: list[str]) -> str:
    body = "".join(f"{line}\n" for line in lines)
    name = _CLASSES.get(stream)
    return body if name is None else f"<span class='{name}' title='{stream}'>{body}</span>"
