"""What `magpie doctor` says of images."""

from __future__ import annotations

from magpie_local.images.catalogue import ImageCatalogue
from magpie_local.images.needs import image_need, needs


async def test_an_image_that_is_not_built_is_a_need_with_its_cure(tmp_path):
    need = await image_need(ImageCatalogue(tmp_path))

    assert not need.ok
    assert need.cure is not None
    assert "magpie images build base" in need.cure


def test_a_tool_that_is_missing_comes_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr("magpie_local.images.tools.SEARCH_PATH", str(tmp_path))

    missing = [need for need in needs() if not need.ok]

    assert all("apt-get install" in (need.cure or "") for need in missing)
    assert "mmdebstrap" in {need.name for need in missing}
