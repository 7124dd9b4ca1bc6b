"""The guest's claim how the script ended: the payload of the log's EXIT frame."""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass

from magpie_local.domain.frames import unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How the script ended, as the agent saw it.

    `code` is 0-255; a script ended by signal n has code 128+n and `signal` n.
    """

    code: int
    signal: int | None
    #: The agent ended it because its time was over.
    timed_out: bool
    #: The agent ended it because it was told to stop, before it had exited by itself.
    stopped: bool
    #: Guest wall clock, seconds since the epoch.
    started_at: float
    ended_at: float


def parse_exit(payload: bytes, nonce: str) -> ExitRecord | None:
    """Return the exit record in `payload`, or None where it is malformed or does not carry this attempt's nonce."""
    try:
        raw = unpack(payload)
        if not hmac.compare_digest(str(raw["nonce"]), nonce):
            return None
        code, signal = raw["code"], raw["signal"]
        if not (type(code) is int and 0 <= code <= 255) or not (signal is None or type(signal) is int):
            return None
        started_at, ended_at = raw["started_at"], raw["ended_at"]
        if not (isinstance(started_at, float) and isinstance(ended_at, float)):
            return None
        if not (math.isfinite(started_at) and math.isfinite(ended_at)):
            return None
        return ExitRecord(
            code=code, signal=signal, timed_out=raw["timed_out"] is True, stopped=raw["stopped"] is True,
            started_at=started_at, ended_at=ended_at,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
