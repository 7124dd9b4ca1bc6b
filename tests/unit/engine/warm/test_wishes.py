"""Wishes outlive whoever had them, and their refusal can be read by who waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.shape import Shape
from magpie_local.engine.warm.wishes import PATIENCE, Wishes

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = Shape("base", 1, 512), Shape("other.image-2", 2, 1024)


@pytest.fixture
def wishes(tmp_path: Path) -> Wishes:
    return Wishes(tmp_path / "templates")


def test_a_wish_is_there_for_another_process_until_it_is_granted(wishes: Wishes, tmp_path: Path) -> None:
    wishes.add(ONE)
    wishes.add(ONE)
    wishes.add(TWO)
    other = Wishes(tmp_path / "templates")
    assert other.all() == [ONE, TWO]
    other.grant(ONE)
    assert wishes.all() == [TWO]


def test_a_refusal_says_why_until_the_shape_is_wished_again(wishes: Wishes) -> None:
    wishes.add(ONE)
    wishes.refuse(ONE, "the disk is full")
    assert wishes.all() == []
    assert wishes.refusal(ONE) == "the disk is full"
    assert wishes.refusal(TWO) is None
    wishes.add(ONE)
    assert wishes.refusal(ONE) is None


def test_an_old_refusal_does_not_count(wishes: Wishes) -> None:
    wishes.refuse(ONE, "the disk was full")
    now = time.time()
    assert wishes.refusal(ONE, now=now + 1) == "the disk was full"
    assert wishes.refusal(ONE, now=now + PATIENCE + 1) is None


def test_a_refusal_from_the_future_does_not_count(wishes: Wishes) -> None:
    wishes.refuse(ONE, "the host's clock was wrong")
    assert wishes.refusal(ONE, now=time.time() - 3600) is None


def test_a_stranger_among_the_wishes_is_passed_over(wishes: Wishes, tmp_path: Path) -> None:
    wishes.add(ONE)
    (tmp_path / "templates" / ".wanted" / "what is this").touch()
    assert wishes.all() == [ONE]


def test_no_wishes_need_no_folder(wishes: Wishes) -> None:
    assert wishes.all() == []
