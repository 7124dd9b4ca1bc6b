"""The guest's port towards clients that come and go."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.frames import ControlReader
from magpie_local.guest.agent import control
from magpie_local.guest.agent.control import VirtioControl
from magpie_local.guest.agent.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a port that nobody takes anything from: it is full."""
    port, host = socket.socketpair()
    port.setblocking(False)
    host.settimeout(10)
    with port, host:
        yield port, host


def fill(port: socket.socket) -> int:
    """Fill a port until nothing more goes in; return how much did."""
    sent = 0
    try:
        while True:
            sent += os.write(port.fileno(), b"x" * 4096)
    except BlockingIOError:
        return sent


def read(host: socket.socket, size: int) -> None:
    while size:
        size -= len(host.recv(size))


def test_an_answer_that_nobody_takes_yet_is_delivered_when_somebody_does(ends, monkeypatch):
    monkeypatch.setattr(control, "KEEP", 10.0)
    port, host = ends
    loop = Loop()
    answering = VirtioControl(loop, port.fileno())
    filled = fill(port)
    answering.send({"op": "first"})
    answering.send({"op": "second"})
    serving = threading.Thread(target=loop.run)
    serving.start()
    read(host, filled)
    reader = ControlReader()
    heard: list[object] = []
    while len(heard) < 2:
        heard += reader.feed(host.recv(4096))
    answering.receive = lambda item: loop.stop()
    host.sendall(b"\x00\x00\x00\x00\x01")
    serving.join(10)
    assert heard == [{"op": "first"}, {"op": "second"}]


def test_an_answer_that_nobody_takes_is_dropped(ends, monkeypatch):
    monkeypatch.setattr(control, "KEEP", 0.01)
    port, host = ends
    loop = Loop()
    answering = VirtioControl(loop, port.fileno())
    filled = fill(port)
    answering.send({"op": "stale"})
    loop.after(0.02, loop.stop)
    loop.run()
    read(host, filled)
    answering.send({"op": "fresh"})
    assert ControlReader().feed(host.recv(4096)) == [{"op": "fresh"}]
