"""Whom widgets ask about what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.aio import AsyncJobs
from magpie_local.api.workspace_faces import AsyncWorkspaces

if TYPE_CHECKING:
    from magpie_local.api.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Source:
    """The verbs of the client that an object came from, awaited: not every object is of the kernel's own client."""

    jobs: AsyncJobs
    workspaces: AsyncWorkspaces


def source_of(runtime: Runtime) -> Source:
    """Return the verbs of the engine that is behind an object."""
    return Source(AsyncJobs(runtime), AsyncWorkspaces(runtime))
