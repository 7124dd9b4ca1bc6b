from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("magpie_test_rig", Path(__file__).with_name("rig.py"))
assert _spec is not None
assert _spec.loader is not None
rig_module = importlib.util.module_from_spec(_spec)
sys.modules["magpie_test_rig"] = rig_module
_spec.loader.exec_module(rig_module)


@pytest.fixture
def rig(tmp_path: Path) -> object:
    return rig_module.Rig.at(tmp_path)
