from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Job, LogChunk

if TYPE_CHECKING:
    from collections.abc import Callable

CREATED = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def a_job() -> Callable[..., Job]:
    """Make a job that succeeded after 2.5 s, but for the fields given."""

    def make(**fields: Any) -> Job:
        usual: dict[str, Any] = {
            "id": "3f2a9c1e-0000-4000-8000-000000000001", "name": "hello", "status": "completed",
            "script_state": "succeeded", "vm_state": "gone", "vcpus": 1, "memory_mb": 512, "image": "base",
            "timeout": None, "description": "", "attempt": 1, "created_at": CREATED, "started_at": CREATED,
            "finished_at": CREATED + timedelta(seconds=2.5), "exit_code": 0, "reason": None, "message": None,
            "accelerator": "kvm", "start": None, "isolation": "shared", "waiting": None, "stateful": False,
            "persistent": False, "idle_pause": None, "workspace_id": None, "secrets": (), "network": "none",
            "ipv6_lease": None, "address": None, "address6": None, "env": {"TOKEN": "s3cret"},
        }  # fmt: skip
        usual |= fields
        return Job(request_id=usual["id"], **usual)

    return make


@pytest.fixture
def a_chunk() -> Callable[..., LogChunk]:
    """Make a piece of output."""

    def make(data: bytes, stream: str = "stdout") -> LogChunk:
        return LogChunk(time=1.5, stream=stream, data=data, text=data.decode(errors="replace"))

    return make
