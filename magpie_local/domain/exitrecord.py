"""The guest's claims how its script and itself ended: the payloads of the log's EXIT and HALT frames."""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from magpie_local.domain.frames import unpack

#: `clean`: unmounted. `busy`: something held it, or not all could be written; its file system wants a check.
WorkspaceEnd: TypeAlias = Literal["clean", "busy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsRecord:
    """What came out of the outputs port. It may reach its file some moments after this record reached the log's."""

    #: Regular files.
    files: int
    #: Size and CRC-32 of the whole stream.
    size: int
    crc: int
    #: Patterns that matched nothing.
    missed: tuple[str, ...]
    #: Not all that was found is there; the note says why.
    truncated: bool
    #: What was left out, and why; usually empty.
    note: str


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
    #: How the workspace was left: None where none was mounted, or where the guest goes on with it.
    workspace: WorkspaceEnd | None = None
    #: None where the order asked for none.
    outputs: OutputsRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltRecord:
    """How a guest that was told to end did."""

    #: None where it had no workspace.
    workspace: WorkspaceEnd | None


def parse_halt(payload: bytes, nonce: str) -> HaltRecord | None:
    """Return the halt record in `payload`, or None where it is malformed or does not carry this attempt's nonce."""
    try:
        raw = unpack(payload)
        if not hmac.compare_digest(str(raw["nonce"]), nonce):
            return None
        return HaltRecord(workspace=_workspace(raw["workspace"]))
    except (ValueError, KeyError, TypeError):
        return None


def _workspace(value: object) -> WorkspaceEnd | None:
    if value is None:
        return None
    # What is neither is a hostile guest's word, and the worse of the two.
    return "clean" if value == "clean" else "busy"


def _outputs(value: object) -> OutputsRecord | None:
    """Return what is said of the outputs; where that makes no sense, that they are of no use."""
    match value:
        case None:
            return None
        case {
            "files": int(files), "bytes": int(size), "crc": int(crc), "missed": list(missed),
            "truncated": bool(truncated), "note": str(note),
        } if min(files, size, crc) >= 0:  # fmt: skip
            told = tuple(str(pattern) for pattern in missed)
            return OutputsRecord(files=files, size=size, crc=crc, missed=told, truncated=truncated, note=note)
    return OutputsRecord(files=0, size=0, crc=0, missed=(), truncated=True, note="the guest's record makes no sense")


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
            started_at=started_at, ended_at=ended_at, workspace=_workspace(raw.get("workspace")),
            outputs=_outputs(raw.get("outputs")),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
