"""The settings of templates and pool: what is refused, with which cure, and what nobody has to set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from magpie_local import config
from magpie_local.domain.pooling import FORK_COST_MB, USUAL
from magpie_local.domain.shape import Shape
from magpie_local.domain.sizes import GIB, MIB
from magpie_local.errors import InvalidInput
from magpie_local.wiring import open_engine

if TYPE_CHECKING:
    from pathlib import Path

HOST_MB = 16 * 1024


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine of 16 GiB."""
    monkeypatch.setattr(config, "_host_memory", lambda: HOST_MB * MIB)


@pytest.fixture
def nothing(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which nobody set anything."""
    empty = tmp_path / "empty.toml"
    empty.touch()
    return {"MAGPIE_CONFIG": str(empty)}


def test_nobody_has_to_set_anything(nothing: dict[str, str]) -> None:
    settings = config.load(nothing)

    assert (settings.templates, settings.pool, settings.pool_shapes) == (8 * GIB, USUAL, ())
    assert settings.pool_memory == HOST_MB * MIB // 8


def test_zero_turns_each_of_them_off(nothing: dict[str, str]) -> None:
    environ = {**nothing, "MAGPIE_TEMPLATES": "0", "MAGPIE_POOL": "0", "MAGPIE_POOL_MEMORY": "0"}

    settings = config.load(environ)

    assert (settings.templates, settings.pool, settings.pool_memory) == (0, 0, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("templates", "-1"), ("templates", -1), ("templates", "-8GiB"), ("templates", "much"), ("templates", 1.5),
        ("pool", "-1"), ("pool", -1), ("pool", 65), ("pool", "two"), ("pool", 2.0), ("pool", True),
        ("pool_memory", "-1"), ("pool_memory", "17GiB"), ("pool_memory", "1e9"),
        ("pool_shapes", "base"), ("pool_shapes", "base:1"), ("pool_shapes", "base:0:512"), ("pool_shapes", 5),
        ("pool_shapes", "Base:1:512"), ("pool_shapes", ["base:1:512", 7]), ("pool_shapes", {"base": 1}),
        ("pool_shapes", "base:1:999999"), ("pool_shapes", "base:9999:512"), ("pool_shapes", "base:1:8"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_with_its_origin(key: str, value: object, nothing: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.load(nothing, **{key: value})

    assert caught.value.field in (key, "image")
    assert "argument" in caught.value.hint


def test_a_budget_below_zero_is_told_what_to_write(nothing: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"templates: '-1' is not allowed; a size like 8GiB, or 0") as caught:
        config.load({**nothing, "MAGPIE_TEMPLATES": "-1"})

    assert caught.value.hint == "The value came from: environment MAGPIE_TEMPLATES."


def test_more_memory_than_the_machine_has_is_refused_with_what_it_has(nothing: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"pool_memory: '17GiB' is not allowed; this machine has 16.0 GiB"):
        config.load(nothing, pool_memory="17GiB")


def test_a_pool_that_does_not_fit_is_told_how_many_do(nothing: dict[str, str]) -> None:
    environ = {**nothing, "MAGPIE_POOL": "10", "MAGPIE_POOL_MEMORY": f"{4 * FORK_COST_MB}MiB"}

    with pytest.raises(InvalidInput, match="at most 4, or more pool_memory") as caught:
        config.load(environ)

    assert (caught.value.field, caught.value.value) == ("pool", 10)
    assert "environment MAGPIE_POOL_MEMORY" in caught.value.hint


def test_the_pool_must_fit_for_all_shapes_together(nothing: dict[str, str]) -> None:
    memory = f"{4 * FORK_COST_MB}MiB"
    two = "base:1:512,base:2:1024"

    assert config.load(nothing, pool=4, pool_memory=memory).pool == 4
    assert config.load(nothing, pool=2, pool_memory=memory, pool_shapes=two).pool == 2
    with pytest.raises(InvalidInput, match="of each of 2 shapes"):
        config.load(nothing, pool=3, pool_memory=memory, pool_shapes=two)


def test_the_usual_pool_is_smaller_where_memory_is_small(nothing: dict[str, str]) -> None:
    assert config.load(nothing, pool_memory=f"{FORK_COST_MB}MiB").pool == 1
    assert config.load(nothing, pool_memory=0).pool == 0


def test_shapes_of_which_not_one_fork_fits_are_not_ignored(nothing: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="of each of 2 shapes"):
        config.load(nothing, pool_memory=f"{FORK_COST_MB}MiB", pool_shapes="base:1:512,base:2:512")


def test_shapes_come_as_text_or_in_the_file_as_a_list(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('pool_shapes = ["base:1:512", "base:2:1024"]\n')
    both = (Shape("base", 1, 512), Shape("base", 2, 1024))

    assert config.load({"MAGPIE_CONFIG": str(file)}).pool_shapes == both
    assert config.load({"MAGPIE_CONFIG": str(file), "MAGPIE_POOL_SHAPES": "base:2:1024"}).pool_shapes == both[1:]
    assert (
        config.load({"MAGPIE_CONFIG": str(file)}, pool_shapes=" base:1:512 , base:2:1024,base:1:512").pool_shapes
        == both
    )


@pytest.mark.parametrize("shapes", ["none", "base:1:512,base:2:1024"])
def test_a_child_process_gets_all_of_it(shapes: str, nothing: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('pool_shapes = ["base:1:256"]\n')
    first = config.load(nothing, templates="3GiB", pool=3, pool_memory="1GiB", pool_shapes=shapes)

    second = config.load({"MAGPIE_CONFIG": str(file), **first.environment()})

    assert second == first


async def test_an_image_that_is_not_there_is_refused_when_the_pool_would_serve_it(
    nothing: dict[str, str], tmp_path: Path
) -> None:
    settings = config.load(
        nothing, home=tmp_path / "s", hypervisor="fake", pool_shapes="base:1:512,fedora:1:512", pool=1
    )

    with pytest.raises(InvalidInput, match="there is no image 'fedora'") as caught:
        async with open_engine(settings):
            pass
    assert (caught.value.field, caught.value.value) == ("pool_shapes", "fedora:1:512")
    assert "magpie images build" in caught.value.hint
    assert "argument" in caught.value.hint
    for cold in (replace(settings, pool=0), replace(settings, templates=0)):
        async with open_engine(cold) as engine:
            assert engine.role == "none"


async def test_a_shape_too_small_for_its_image_is_refused(nothing: dict[str, str], tmp_path: Path) -> None:
    monkey = config.load(nothing, home=tmp_path / "s", hypervisor="fake", pool=1)
    settings = replace(monkey, pool_shapes=(Shape("base", 1, 32),))  # as if this machine allowed it

    with pytest.raises(InvalidInput, match="at least 64 MiB"):
        async with open_engine(settings):
            pass
