"""The examination of this machine, wherever it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local import config
from magpie_local.doctor import examine

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load({"MAGPIE_HOME": str(tmp_path / "home"), "MAGPIE_HYPERVISOR": "fake"})


def test_each_need_has_a_name_and_says_what_was_found(settings: Settings) -> None:
    needs = examine(settings)

    assert all(need.name and need.detail for need in needs)
    assert all(need.ok or need.cure for need in needs)
    assert needs


async def test_a_loop_that_runs_already_is_no_hindrance(settings: Settings) -> None:
    names = [need.name for need in examine(settings)]

    assert names
    assert len(names) == len(set(names))
