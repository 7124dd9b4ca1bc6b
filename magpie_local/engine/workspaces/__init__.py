"""Workspaces: what is done with their disks, while no VM has them.

Workspaces      the verbs, and what a leader needs before it gives a workspace to a VM
Making          new disk files, which a sweep leaves alone until a row names them
WorkspaceLock   one change of a workspace at a time, on the whole machine
"""

from __future__ import annotations

from magpie_local.engine.workspaces.usage import Usage
from magpie_local.engine.workspaces.workspaces import Prepared, Workspaces

__all__ = ["Prepared", "Usage", "Workspaces"]
