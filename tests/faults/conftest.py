from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"magpie_test_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


rig_module, watch_module = _load("rig"), _load("watch")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[object]:
    made = rig_module.Rig.at(tmp_path)
    yield made
    made.clean()


@pytest.fixture
def real_rig(tmp_path: Path, image_folder: Path) -> Iterator[object]:
    made = rig_module.Rig.at(tmp_path, MAGPIE_HYPERVISOR="libvirt", MAGPIE_IMAGES=str(image_folder))
    yield made
    made.recover()  # also after a failed test no VM may stay
    made.clean()


@pytest.fixture
def stateful_rig(rig: Any) -> Iterator[object]:
    """A rig whose VMs may stay; after a failed test none does."""
    rig.program = Path(__file__).with_name("stateful_child.py")
    yield rig
    rig.stop()


@pytest.fixture
def vms(rig: Any) -> object:
    """The VMs of the rig's fake hypervisor."""
    return watch_module.FakeVms(rig.run)


@pytest.fixture
def watch(rig: Any, vms: Any) -> Iterator[object]:
    """Who has which workspace, looked at all the time."""
    with watch_module.Watch(rig.home, vms) as watch:
        yield watch


@pytest.fixture
def real_watch(real_rig: Any) -> Iterator[object]:
    with watch_module.Watch(real_rig.home, watch_module.RealVms(real_rig)) as watch:
        yield watch
