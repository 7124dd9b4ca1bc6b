"""Output with terminal escapes as HTML or as plain text: colours stay, every other order is dropped."""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from magpie_local.view import sgr
from magpie_local.view.colours import RGB, indexed, readable_on, tempered, web
from magpie_local.view.plain import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.view.sgr import Attributes

#: One sequence of ECMA-48: `ESC [`, parameters, one letter; a string (`ESC ]`, title or link, up to its terminator or
#: the line's end); or two characters. Each also unfinished, as a line may end in one. No part can match in two ways,
#: so that the time is linear in the text.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<parameters>[0-?]*)(?:[ -/]*)(?P<letter>[@-~])?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CLASSES = {
    sgr.BOLD: "ab", sgr.DIM: "ad", sgr.ITALIC: "ai", sgr.UNDERLINE: "au", sgr.STRIKE: "as",
}  # fmt: skip
#: Whether a line has anything to escape, drop or show as a sign; most have not, and live views render them often.
_SPECIAL = re.compile(r"[^\t !#-%(-;=?-~\xa0-\u0619\u0620-\u1fff\u3000-\ud7ff]")
_NUMBERS = re.compile(r"[0-9;:]*")


def ansi_to_html(text: str) -> str:
    """Return `text` as HTML: escaped, its colours as spans with classes (style.py has their rules).

    Colours end with their line. Never raises, whatever the text.
    """
    return "\n".join(map(_line_html, text.split("\n")))


def ansi_to_text(text: str) -> str:
    """Return `text` without escape sequences, other control characters made visible."""
    return visible(_ESCAPE.sub("", text)) if _SPECIAL.search(text) else text


def _line_html(line: str) -> str:
    if not _SPECIAL.search(line):
        return line
    if "\x1b" not in line and "\x9b" not in line:
        return escape(ansi_to_text(line))
    runs = groupby(_runs(line), key=lambda run: run[0])
    return "".join(_span(attributes, "".join(text for _, text in group)) for attributes, group in runs)


def _runs(line: str) -> Iterator[tuple[Attributes, str]]:
    """Yield pieces of a line, each with its attributes."""
    now, at = sgr.PLAIN, 0
    for match in _ESCAPE.finditer(line):
        if match.start() > at:
            yield now, line[at : match.start()]
        at = match.end()
        if match["letter"] == "m" and _NUMBERS.fullmatch(match["parameters"]):
            now = sgr.applied(now, match["parameters"])
    if at < len(line):
        yield now, line[at:]


def _span(attributes: Attributes, text: str) -> str:
    opening = _opening(attributes)
    body = escape(visible(text))
    return f"{opening}{body}</span>" if opening else body


@lru_cache(maxsize=512)
def _opening(attributes: Attributes) -> str:
    """Return the start of a span with these attributes; empty where they are plain."""
    classes = [name for flag, name in _CLASSES.items() if flag in attributes.flags]
    colour, style = _colours(attributes)
    names = " ".join([*classes, *colour])
    written = (f" class='{names}'" if names else "") + (f" style='{style}'" if style else "")
    return f"<span{written}>" if written else ""


def _colours(attributes: Attributes) -> tuple[list[str], str]:
    """Return the classes and the inline style of a pair of colours.

    Text colours alone are mixed with the page's own by the style sheet, so that they can be read on any theme. With a
    background both are exact, but for a pair that nobody could read.
    """
    front, back = attributes.foreground, attributes.background
    if sgr.INVERSE in attributes.flags:
        if front is None and back is None:
            return ["av"], ""
        front, back = back, front
        if back is None:
            return _alone(front)
    if back is not None:
        ground = _exact(back)
        ink = readable_on(ground, None if front is None else _exact(front))
        return [], f"color:{web(ink)};background:{web(ground)}"
    return _alone(front)


def _alone(front: int | RGB | None) -> tuple[list[str], str]:
    if front is None:
        return [], ""
    if isinstance(front, int):
        return ["ax", f"a{front}"], ""
    return ["ax"], f"--c:{web(tempered(front))}"


def _exact(colour: int | RGB) -> RGB:
    return indexed(colour) if isinstance(colour, int) else colour
