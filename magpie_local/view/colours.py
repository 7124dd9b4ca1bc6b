"""Colours of terminals: the 256 of the palette, and what makes a pair of colours readable (WCAG 2)."""

from __future__ import annotations

RGB = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)
#: The first 16 as xterm paints them: used where the job gives a background, so that the pair is what it meant.
PALETTE: tuple[RGB, ...] = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip
_CUBE = (0, 95, 135, 175, 215, 255)
#: Contrast below which text is hard to make out.
_READABLE = 3.0
#: Luminance of text that is readable on light and dark pages once the page's own colour is mixed in.
_DARKEST, _LIGHTEST = 0.10, 0.40


def indexed(number: int) -> RGB:
    """Return colour 0 to 255 of a terminal's palette."""
    if number < 16:
        return PALETTE[number]
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return grey, grey, grey
    red, rest = divmod(number - 16, 36)
    return _CUBE[red], _CUBE[rest // 6], _CUBE[rest % 6]


def web(colour: RGB) -> str:
    """Return a colour as CSS writes it: `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def luminance(colour: RGB) -> float:
    """Return the relative luminance, 0 (black) to 1 (white)."""
    red, green, blue = (_linear(part / 255) for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """Return the contrast of two colours, 1 (none) to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def readable_on(background: RGB, wanted: RGB | None) -> RGB:
    """Return the wanted text colour where it can be read on a background, else black or white."""
    if wanted is not None and contrast(wanted, background) >= _READABLE:
        return wanted
    return max(BLACK, WHITE, key=lambda colour: contrast(colour, background))


def tempered(colour: RGB) -> RGB:
    """Return a colour moved towards grey where it is too dark or too light for a page whose ground is not known."""
    for step in range(10):
        if luminance(colour) > _LIGHTEST:
            colour = _mix(colour, BLACK, 0.1)
        elif luminance(colour) < _DARKEST:
            colour = _mix(colour, WHITE, 0.1 + step / 100)
        else:
            break
    return colour


def _mix(colour: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
