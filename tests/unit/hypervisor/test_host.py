"""The host ends with its engine, however that ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from magpie_local.hypervisor import host

FAKE = Path(__file__).with_name("fake_libvirt")
PATH = os.pathsep.join([str(FAKE), str(Path(host.__file__).parents[3])])
ENGINE = """
import asyncio, os, sys
from pathlib import Path
from magpie_local.hypervisor.connection import Connection
from magpie_local.hypervisor.place import Place

async def main():
    connection = Connection(Place("qemu:///session", Path("/"), dict(os.environ)), lambda *_: None)
    await connection.call("list", budget=10)
    child = os.fork() if sys.argv[1] == "fork" else 0
    if child or sys.argv[1] != "fork":
        print("open", child, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_the_host_ends_when_its_engine_is_killed_even_where_a_forked_child_lives(how, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_LIBVIRT": str(tmp_path)}
    # -W: an engine that forks with threads is what notebooks do.
    command = [sys.executable, "-W", "ignore", "-c", ENGINE, how]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        _, child = engine.stdout.readline().split()
        pidfd = os.pidfd_open(int((tmp_path / "opened").read_text()))
        engine.kill()
        ended, _, _ = select.select([pidfd], [], [], 5)
        if int(child):
            os.kill(int(child), signal.SIGKILL)
    os.close(pidfd)
    assert ended


@pytest.mark.parametrize("unread", [False, True])
def test_the_host_ends_with_its_channel_whatever_was_left_unread_in_it(unread, tmp_path):
    ours, theirs = socket.socketpair()
    owner = os.pidfd_open(os.getpid())
    environment = {**os.environ, "PYTHONPATH": PATH, "FAKE_LIBVIRT": str(tmp_path)}
    command = [sys.executable, "-P", "-m", host.__name__, str(owner)]
    process = subprocess.Popen(command, stdin=theirs.fileno(), pass_fds=[owner], env=environment)
    theirs.close()
    os.close(owner)
    try:
        ours.sendall(json.dumps({"id": 1, "verb": "open", "args": ["qemu:///session"]}).encode() + b"\n")
        answer = ours.recv(4096, socket.MSG_PEEK if unread else 0)
        ours.close()
        assert json.loads(answer)["id"] == 1
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
