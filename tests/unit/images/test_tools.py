from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import ImageBuildFailed
from magpie_local.images import tools
from magpie_local.images.buildlock import build_lock
from magpie_local.images.workspace import BuildFolders

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_failed_tool_shows_its_step_its_code_and_its_last_lines(tmp_path: Path) -> None:
    script = "for n in $(seq 30); do echo line $n; done; exit 7"

    with pytest.raises(ImageBuildFailed) as caught:
        await tools.run("scratch disk", "sh", "-c", script, cwd=tmp_path)

    assert "scratch disk: sh ended with code 7" in caught.value.message
    assert "line 30" in caught.value.message
    assert "line 10\n" not in caught.value.message


async def test_a_missing_tool_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SEARCH_PATH", str(tmp_path))

    with pytest.raises(ImageBuildFailed, match=r"mkfs\.erofs is not installed") as caught:
        await tools.run("root", "mkfs.erofs", cwd=tmp_path)

    assert caught.value.hint == "sudo apt-get install --no-install-recommends erofs-utils"


async def test_a_cancelled_tool_is_told_to_end_and_waited_for(tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/cleaned; exit' TERM; touch {tmp_path}/ready; while :; do sleep 0.01; done"
    task = asyncio.create_task(tools.run("root", "sh", "-c", script, cwd=tmp_path))
    while not (tmp_path / "ready").exists():
        await asyncio.sleep(0.01)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (tmp_path / "cleaned").exists()


async def test_a_second_build_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    told: list[str] = []
    async with build_lock(tmp_path / "lock", lambda: told.append("first")):
        second = asyncio.create_task(_hold(tmp_path / "lock", told))
        await asyncio.sleep(0.05)
        waited = list(told)
    await second

    assert waited == ["waits"]
    assert told == ["waits", "has it"]


async def test_the_lock_is_held_as_long_as_a_tool_of_a_killed_build_lives(tmp_path: Path) -> None:
    told: list[str] = []
    async with build_lock(tmp_path / "lock", lambda: None) as descriptor:
        orphan = await asyncio.create_subprocess_exec("sleep", "0.3", pass_fds=(descriptor,))
    begun = time.monotonic()

    await _hold(tmp_path / "lock", told)

    assert told == ["waits", "has it"]
    assert time.monotonic() - begun > 0.2
    await orphan.wait()


async def _hold(path: Path, told: list[str]) -> None:
    async with build_lock(path, lambda: told.append("waits")):
        told.append("has it")


async def test_the_next_build_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = await BuildFolders(tmp_path).make()
    (left / "root").mkdir()

    work = await BuildFolders(tmp_path).make()

    assert not left.exists()
    assert work.is_dir()
    await BuildFolders(tmp_path).remove()
    assert not work.exists()
    assert not (tmp_path / ".building").exists()
