"""Real switches, with sockets in the place of VMs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import NetworkUnavailable
from magpie_local.hypervisor.net.networks import _hold_switch, _lock

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME = b"\xff" * 6 + bytes.fromhex("525400000001") + b"\x08\x00" + b"hello"
WIRE = len(FRAME).to_bytes(4) + FRAME


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mgn") as made:
        yield Path(made) / "net" / "n"


def test_frames_stay_on_their_network(folder):
    a, b, c = [_hold_switch(folder / name, name) for name in ("blue", "blue", "red")]
    with a, b, c:
        a.sendall(WIRE)
        assert b.recv(1000) == WIRE
        c.settimeout(0.3)
        with pytest.raises(TimeoutError):
            c.recv(1000)


def test_a_port_that_talks_nonsense_is_closed_and_the_others_go_on(folder):
    with _hold_switch(folder / "b", "blue") as a, _hold_switch(folder / "b", "blue") as b:
        with _hold_switch(folder / "b", "blue") as bad:
            bad.sendall(b"\xff" * 8)
            assert bad.recv(1000) == b""
        a.sendall(WIRE)
        assert b.recv(1000) == WIRE


def test_a_port_that_does_not_read_keeps_nobody_waiting(folder):
    with _hold_switch(folder / "b", "blue") as a, _hold_switch(folder / "b", "blue"):
        for _ in range(200):
            a.sendall((60_000).to_bytes(4) + FRAME.ljust(60_000, b"x"))
        with _hold_switch(folder / "b", "blue") as late:
            a.sendall(WIRE)
            assert late.recv(1000) == WIRE


def test_a_switch_ends_with_its_last_port_and_the_next_vm_gets_another(folder):
    for _ in range(5):
        _hold_switch(folder / "b", "blue").close()
    with _hold_switch(folder / "b", "blue") as a, _hold_switch(folder / "b", "blue") as b:
        a.sendall(WIRE)
        assert b.recv(1000) == WIRE
        with _lock(folder / "b") as lock:
            assert lock is None


def test_another_user_can_not_reach_a_switch(folder):
    if os.geteuid() != 0:
        pytest.skip("takes root to be somebody else")
    folder.parent.parent.chmod(0o755)
    with _hold_switch(folder / "b", "blue"):
        assert [path.stat().st_mode & 0o777 for path in (folder, folder / "b", folder / "b" / "s")] == [448, 448, 384]
        script = f"import socket; socket.socket(socket.AF_UNIX).connect({str(folder / 'b' / 's')!r})"
        python = getattr(sys, "_base_executable", sys.executable)
        tried = subprocess.run(
            [python, "-c", script], user=65534, group=65534, extra_groups=[], cwd="/", capture_output=True, check=False
        )
    assert b"PermissionError" in tried.stderr


def test_a_path_that_is_too_long_is_refused(folder):
    with pytest.raises(NetworkUnavailable, match="longer than 107 bytes"):
        _hold_switch(folder / ("x" * 100), "blue")
