"""What this machine must have, and whether it does: the lines of `magpie doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that this machine must have."""

    name: str
    ok: bool
    #: What was found, or what is missing.
    detail: str
    #: The command or the step that mends it; None where nothing is to be done.
    cure: str | None
