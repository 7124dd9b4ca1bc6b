"""The guest: the agent that runs in every VM, and the host's side of its channel."""

from __future__ import annotations
