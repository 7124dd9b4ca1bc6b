"""A leader with templates and a pool, on the fake hypervisor."""

from __future__ import annotations

import pytest

from magpie_local.engine.context import WarmOptions
from magpie_local.engine.warm import policy

GIB = 1024**3


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the warmer begin right after a start, and on a machine that may be busy or small."""
    monkeypatch.setattr(policy, "QUIET", 0.0)
    monkeypatch.setattr(policy, "RESERVE", 0.0)


@pytest.fixture
def templates_only() -> WarmOptions:
    return WarmOptions(templates_size=GIB)


@pytest.fixture
def with_pool() -> WarmOptions:
    return WarmOptions(templates_size=GIB, pool=2, pool_memory_mb=10 * policy.FORK_COST_MB)
