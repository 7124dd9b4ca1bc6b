from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.frames import EXIT, STARTED, STDOUT, log_frame, pack
from magpie_local.domain.layout import AttemptFiles
from magpie_local.engine.evidence import Evidence, gather, secure

if TYPE_CHECKING:
    from pathlib import Path

NONCE = "b1e5"
NOTHING = Evidence(started=False, exit=None, halt=None, panicked=False, powered_off=False, log_size=0)


def started(nonce: str = NONCE) -> bytes:
    return log_frame(STARTED, 1, pack({"attempt": "a.1", "nonce": nonce}))


def exited(nonce: str = NONCE, code: int = 0) -> bytes:
    record = {
        "nonce": nonce, "code": code, "signal": None, "timed_out": False, "stopped": False, "started_at": 1.0,
        "ended_at": 2.0,
    }  # fmt: skip
    return log_frame(EXIT, 2, pack(record))


def output(data: bytes = b"hello\n") -> bytes:
    return log_frame(STDOUT, 1, data)


@pytest.fixture
def files(tmp_path: Path) -> AttemptFiles:
    return AttemptFiles(tmp_path)


def test_missing_files_prove_nothing(files):
    assert gather(files, NONCE) == NOTHING


def test_a_whole_log_proves_the_start_and_the_end(files):
    log = started() + output() + exited(code=3)
    files.log.write_bytes(log)

    evidence = gather(files, NONCE)

    assert evidence.started
    assert evidence.exit is not None
    assert (evidence.exit.code, evidence.log_size) == (3, len(log))


def test_the_end_is_found_behind_output_of_any_size(files):
    files.log.write_bytes(started() + output(b"x" * 60_000) * 20 + exited(code=9))

    evidence = gather(files, NONCE)

    assert evidence.exit is not None
    assert evidence.exit.code == 9


@pytest.mark.parametrize("nonce", ["", "guess", "B1E5"])
def test_frames_without_the_nonce_are_forgeries(files, nonce):
    files.log.write_bytes(started(nonce) + output() + exited(nonce))

    evidence = gather(files, NONCE)

    assert (evidence.started, evidence.exit) == (False, None)


def test_an_exit_record_inside_the_output_is_only_output(files):
    files.log.write_bytes(started() + output(exited("guess")) + output(b"going on\n"))

    assert gather(files, NONCE).exit is None


def test_an_exit_record_counts_only_at_the_very_end(files):
    files.log.write_bytes(started() + exited() + output(b"after the end\n"))

    assert gather(files, NONCE).exit is None


def test_a_log_cut_at_any_byte_proves_no_end(files):
    log = started() + output() + exited()
    for size in range(len(log)):
        files.log.write_bytes(log[:size])
        assert gather(files, NONCE).exit is None, f"cut at {size}"


@pytest.mark.parametrize("log", [b"\xff" * 100, b"\0" * 5000, b"x", log_frame(STARTED, 1, b"[]"), b"", b"\x00\x00\x01"])
def test_a_broken_log_proves_nothing_and_raises_nothing(files, log):
    files.log.write_bytes(log)

    evidence = gather(files, NONCE)

    assert (evidence.started, evidence.exit) == (False, None)


def test_a_start_frame_that_is_no_message_proves_nothing(files):
    files.log.write_bytes(log_frame(STARTED, 1, b"[" * 60_000))

    assert not gather(files, NONCE).started


def test_symlinks_are_not_followed(files, tmp_path):
    real = tmp_path / "elsewhere"
    real.write_bytes(started() + exited())
    files.log.symlink_to(real)

    assert gather(files, NONCE) == NOTHING


@pytest.mark.parametrize(
    ("console", "panicked", "powered_off"),
    [
        (b"[    1.2] Kernel panic - not syncing: VFS", True, False),
        (b"[    9.9] reboot: Power down\n", False, True),
        (b"Kernel panic" + b"x" * 65 * 1024, False, False),
        (b"[    0.0] Linux version 6.1", False, False),
    ],
    ids=["panic", "power off", "long ago", "alive"],
)
def test_the_consoles_end_tells_how_the_kernel_ended(files, console, panicked, powered_off):
    files.console.write_bytes(console)

    evidence = gather(files, NONCE)

    assert (evidence.panicked, evidence.powered_off) == (panicked, powered_off)


def test_securing_a_log_that_is_not_there_is_nothing(files):
    secure(files.log)

    assert not files.log.exists()
