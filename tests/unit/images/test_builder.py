from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import ImageBuildFailed
from magpie_local.images import builder, tools
from magpie_local.images.builder import build
from magpie_local.images.needs import needs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no tool is installed."""
    monkeypatch.setattr(tools, "SEARCH_PATH", str(tmp_path / "empty"))


@pytest.mark.usefixtures("bare_machine")
async def test_a_build_without_tools_names_all_of_them_and_their_cures_at_once(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildFailed, match=r"mmdebstrap \(not installed\).*qemu-img") as caught:
        await build("base", tmp_path / "images")

    assert "sudo apt-get install --no-install-recommends e2fsprogs" in caught.value.hint.splitlines()
    assert not (tmp_path / "images").exists()


@pytest.mark.usefixtures("bare_machine")
def test_each_missing_tool_is_a_need_with_its_cure() -> None:
    found = {need.name: need for need in needs()}

    assert not found["mkfs.erofs"].ok
    assert found["mkfs.erofs"].cure == "sudo apt-get install --no-install-recommends erofs-utils"


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "needs", list)  # this machine may lack tools
    (tmp_path / "images").write_text("a file, no folder")

    with pytest.raises(ImageBuildFailed, match=f"{tmp_path}/images"):
        await build("base", tmp_path / "images", force=True)
