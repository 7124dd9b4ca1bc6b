"""Run Magpie jobs (bash scripts) in real virtual machines on one laptop: offline, no cloud, no daemon.

    from magpie_local import Magpie

    client = Magpie()
    job = client.jobs.run_and_wait(name="hello", script="echo hello from $(uname -r)")
    print(job.status, client.jobs.get_logs(job.id))

Names are imported when first used: `import magpie_local` costs no library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magpie_local.aio import AsyncMagpie
    from magpie_local.api.models import Confirmation, Job, LogChunk, PoolStatus, TemplateInfo
    from magpie_local.client import Magpie
    from magpie_local.domain.forkproof import ForkProof
    from magpie_local.errors import (
        HostError,
        InvalidInput,
        JobActive,
        JobFailed,
        JobNotFound,
        MagpieError,
        NotFound,
        StateError,
        Unsupported,
        WaitTimeout,
    )

__version__ = "0.1.0"

_HOMES = {
    "AsyncMagpie": "aio",
    "Confirmation": "api.models",
    "ForkProof": "domain.forkproof",
    "HostError": "errors",
    "InvalidInput": "errors",
    "Job": "api.models",
    "JobActive": "errors",
    "JobFailed": "errors",
    "JobNotFound": "errors",
    "LogChunk": "api.models",
    "Magpie": "client",
    "MagpieError": "errors",
    "NotFound": "errors",
    "PoolStatus": "api.models",
    "StateError": "errors",
    "TemplateInfo": "api.models",
    "Unsupported": "errors",
    "WaitTimeout": "errors",
}

__all__ = [
    "AsyncMagpie",
    "Confirmation",
    "ForkProof",
    "HostError",
    "InvalidInput",
    "Job",
    "JobActive",
    "JobFailed",
    "JobNotFound",
    "LogChunk",
    "Magpie",
    "MagpieError",
    "NotFound",
    "PoolStatus",
    "StateError",
    "TemplateInfo",
    "Unsupported",
    "WaitTimeout",
]


def load_ipython_extension(shell: Any) -> None:
    """Hand over to notebook_ext: `%load_ext magpie_local` and `%load_ext notebook_ext` are the same."""
    from notebook_ext import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away; jobs, their displays and the client stay."""
    from notebook_ext import unload_ipython_extension as unload

    unload(shell)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
