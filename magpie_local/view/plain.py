"""Text of unknown origin made visible: what a terminal or a browser would obey is shown as a sign for it."""

from __future__ import annotations

import re

#: Control characters but tab and line feed; signs that reorder or break a line; what UTF-8 can't say.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def visible(text: str) -> str:
    """Return `text` with a visible sign in place of each character that is an order rather than a letter.

    Control characters are written as `cat -v` does (NUL is ^@), direction marks and line separators as their number in
    brackets, and what is no character as U+FFFD. Tabs and line feeds stay. (Unicode has pictures for control
    characters, but the fonts of an ordinary Debian have not.)
    """
    return _UNSAFE.sub(_sign, text)


def one_line(text: str, width: int) -> str:
    """Return `text` made visible, on one line, and at most `width` characters of it."""
    return cut(visible(" ".join(text.split())), width)


def cut(text: str, width: int) -> str:
    """Return `text`, its end replaced by an ellipsis where it has more than `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x80:
        return f"^{chr(code ^ 0x40)}"
    if code <= 0x9F or code >= 0xD800:
        return "\ufffd"
    return f"[U+{code:04X}]"
