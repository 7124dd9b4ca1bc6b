from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local.store import needs, open_store

if TYPE_CHECKING:
    from magpie_local.domain.layout import Layout
    from magpie_local.testing.clock import ManualClock


def found(layout: Layout) -> dict[str, bool]:
    return {need.name: need.ok for need in needs(layout)}


def test_looking_at_a_folder_that_is_not_there_makes_nothing(layout: Layout) -> None:
    assert found(layout) == {"SQLite": True, "state directory": True, "free space": True, "job database": True}
    assert not layout.root.exists()


async def test_a_used_folder_is_in_order(layout: Layout, clock: ManualClock) -> None:
    async with open_store(layout, clock):
        assert all(found(layout).values())


def test_what_is_wrong_comes_with_its_cure(layout: Layout) -> None:
    layout.root.mkdir(mode=0o700)
    layout.root.chmod(0o777)
    layout.database.write_text("no database " * 500)
    wrong = [need for need in needs(layout) if not need.ok]
    assert [need.name for need in wrong] == ["state directory", "job database"]
    assert all(need.cure for need in wrong)
