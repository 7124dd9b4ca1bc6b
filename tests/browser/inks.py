"""The colours that text in a page has in the end, and how well it can be read (WCAG 2, contrast of AA: 4.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.view.colours import RGB, contrast

if TYPE_CHECKING:
    from playwright.sync_api import Locator

#: For each piece of text below an element: the text, its colour, and that of what is behind it. A canvas knows what any
#: notation of CSS comes to; grounds are laid over each other from the page upwards, and so is opacity.
_INKS = """root => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const parts = colour => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
    return [[red, green, blue], alpha / 255];
  };
  const mix = (over, under, share) => over.map((part, i) => part * share + under[i] * (1 - share));
  const inks = element => {
    const line = [];
    for (let one = element; one; one = one.parentElement) { line.unshift(getComputedStyle(one)); }
    let ground = [255, 255, 255];
    const groups = [];
    for (const style of line) {
      if (style.opacity !== '1') { groups.unshift([ground, Number(style.opacity)]); }
      const [cover, share] = parts(style.backgroundColor);
      ground = mix(cover, ground, share);
    }
    const [colour, alpha] = parts(line[line.length - 1].color);
    let ink = mix(colour, ground, alpha);
    for (const [under, share] of groups) { ink = mix(ink, under, share); ground = mix(ground, under, share); }
    return [ink, ground];
  };
  const found = [];
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.closest('style, title')) { continue; }
    found.push([walk.currentNode.data.trim(), ...inks(element)]);
  }
  return found;
}"""


@dataclass(frozen=True, slots=True)
class Ink:
    """A piece of text as it is painted."""

    text: str
    ink: RGB
    ground: RGB

    @property
    def contrast(self) -> float:
        """How well it can be read: 1 (not at all) to 21."""
        return contrast(self.ink, self.ground)


def inks(root: Locator) -> list[Ink]:
    """Return each piece of text that is shown below an element."""
    return [Ink(text, _whole(ink), _whole(ground)) for text, ink, ground in root.evaluate(_INKS)]


def faint(found: list[Ink], least: float = 4.5) -> list[str]:
    """Return what can't be read well, in words."""
    return [f"{one.contrast:.2f}: {one.text[:60]!r} {one.ink} on {one.ground}" for one in found if one.contrast < least]


def _whole(parts: list[float]) -> RGB:
    red, green, blue = (round(part) for part in parts)
    return red, green, blue
