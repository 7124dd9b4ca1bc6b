"""The agent where it does not belong."""

from __future__ import annotations

import pytest

from magpie_local.guest.agent import machine
from magpie_local.guest.agent.main import serve


def test_an_agent_outside_a_guest_of_ours_exits_and_turns_nothing_off(monkeypatch, capfd, tmp_path):
    written: list[str] = []
    monkeypatch.setattr(machine, "_PORTS", str(tmp_path))
    monkeypatch.setattr(machine, "_PORTS_PATIENCE", 0.02)
    monkeypatch.setattr(machine, "_write", lambda path, data: written.append(path))
    with pytest.raises(SystemExit) as caught:
        serve(machine.GuestMachine())
    assert caught.value.code == 1
    assert "no virtio-serial port is called org.magpie.control" in capfd.readouterr().err
    assert written == []


def test_ports_are_found_by_their_names(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_PORTS", str(tmp_path))
    for device, name in (("vport1p1", machine.CONTROL_PORT), ("vport1p2", machine.LOG_PORT), ("vport1p3", "other")):
        (tmp_path / device).mkdir()
        (tmp_path / device / "name").write_text(f"{name}\n")
    assert machine._port(machine.LOG_PORT) == "/dev/vport1p2"
