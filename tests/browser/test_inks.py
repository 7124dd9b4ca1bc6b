"""What measures how well text can be read tells readable from unreadable text."""

from __future__ import annotations

from tests.browser.inks import Ink, faint


def test_grey_on_white_is_told_and_black_is_not() -> None:
    black, grey = Ink("black", (0, 0, 0), (255, 255, 255)), Ink("grey", (150, 150, 150), (255, 255, 255))

    assert faint([black, grey]) == ["2.96: 'grey' (150, 150, 150) on (255, 255, 255)"]
