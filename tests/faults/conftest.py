from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_spec = importlib.util.spec_from_file_location("magpie_test_rig", Path(__file__).with_name("rig.py"))
assert _spec is not None
assert _spec.loader is not None
rig_module = importlib.util.module_from_spec(_spec)
sys.modules["magpie_test_rig"] = rig_module
_spec.loader.exec_module(rig_module)


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
