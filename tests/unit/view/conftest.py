from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: Everything that a view may be made of: nothing that runs, loads or submits.
TAGS = {
    "div", "span", "style", "bdi", "b", "code", "pre", "svg", "title", "path", "circle", "rect", "polyline",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {
    "class", "style", "title", "role", "tabindex", "scope", "aria-label", "aria-hidden", "viewbox", "width", "height",
    "fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin", "d", "cx", "cy", "r", "x", "y", "points",
    "fill-opacity",
}  # fmt: skip
_INLINE = re.compile(r"--c:#[0-9a-f]{6}|color:#[0-9a-f]{6};background:#[0-9a-f]{6}")


@dataclass
class Page:
    """HTML as a browser reads it."""

    #: Text of the output (`pre`), of everything but styles and drawings, and of the styles.
    output: str = ""
    text: str = ""
    styles: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(tag, attrs)
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            self.page.styles.append(data)
        elif "svg" not in self._open:
            self.page.text += data
            self.page.output += data if "pre" in self._open else ""

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def close(self) -> None:
        super().close()
        assert self._open == []

    def _see(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        known = {name: value or "" for name, value in attrs}
        assert known.keys() <= ATTRIBUTES
        assert "style" not in known or _INLINE.fullmatch(known["style"])
        self.page.tags.append((tag, known))


@pytest.fixture(scope="session")
def read() -> Callable[[str], Page]:
    """Read HTML, refusing all that a view must not hold and all that is not well formed."""

    def reading(html: str) -> Page:
        html.encode()
        reader = _Reader()
        reader.feed(html)
        reader.close()
        return reader.page

    return reading
