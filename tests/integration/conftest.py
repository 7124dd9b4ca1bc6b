"""The internet, as these tests have it: a pair of network namespaces. No packet leaves this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
HERE4, ALSO4, HERE6 = "198.51.100.10", "192.0.2.33", "2001:db8:1::10"
NEXT4, NEXT6 = "198.51.100.1", "2001:db8:1::1"
THERE4, THERE6 = "203.0.113.7", "2001:db8:2::7"
#: Bytes that the servers out there send to whoever connects.
SIZE = 3_000_000

#: Serves so many bytes to whoever connects.
SERVER = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, 80))
    listener.listen(50)
    waiting.register(listener, selectors.EVENT_READ)
print("up", flush=True)
while True:
    for key, _ in waiting.select():
        connection, _ = key.fileobj.accept()
        print("met", flush=True)
        connection.sendall(b"x" * int(sys.argv[1]))
        connection.close()
"""


@dataclass
class World:
    """`here` stands for this machine, `there` for the rest of the world."""

    here: str
    there: str
    servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True)

    def serve(self, namespace: str, size: int, *addresses: str) -> subprocess.Popen[str]:
        """Have a server of SIZE bytes at port 80 of these addresses."""
        command = ["ip", "netns", "exec", namespace, sys.executable, "-c", SERVER, str(size), *addresses]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        return server

    def holds_a_gate(self) -> bool:
        """Say whether a gate runs in `here`."""
        place = os.stat(f"/run/netns/{self.here}").st_ino
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if b".net.gate\0" in line and (process / "ns/net").stat().st_ino == place:
                    return True
        return False

    def make(self) -> None:
        for namespace in (self.here, self.there):
            self.run("ip", "netns", "add", namespace)
        self.run(
            "ip", "link", "add", "a0", "netns", self.here, "type", "veth", "peer", "name", "b0", "netns", self.there
        )
        here, there = ("ip", "-n", self.here), ("ip", "-n", self.there)
        for device in ("lo", "a0"):
            self.run(*here, "link", "set", device, "up")
        for device in ("lo", "b0"):
            self.run(*there, "link", "set", device, "up")
        for address, device in ((f"{HERE4}/24", "a0"), (f"{HERE6}/64", "a0"), (f"{ALSO4}/32", "lo")):
            self.run(*here, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        own = ((f"{NEXT4}/24", "b0"), (f"{NEXT6}/64", "b0"), (f"{THERE4}/32", "lo"), (f"{THERE6}/128", "lo"))
        for address, device in own:
            self.run(*there, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        self.run(*here, "route", "add", "default", "via", NEXT4)
        self.run(*here, "-6", "route", "add", "default", "via", NEXT6)

    def end(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        for namespace in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


@pytest.fixture
def world() -> Iterator[World]:
    """Make the namespaces, and be in `here` meanwhile: so is all that is started."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces with routes between them take root")
    made = World(f"mgp-h{os.getpid()}", f"mgp-t{os.getpid()}")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        made.make()
        made.serve(made.there, SIZE, THERE4, THERE6)
        made.serve(made.there, 9, NEXT4)
        made.serve(made.here, 9, "127.0.0.1", "::1", HERE4, HERE6, ALSO4)
        away = os.open(f"/run/netns/{made.here}", os.O_RDONLY)
        _enter(away)
        os.close(away)
        yield made
    finally:
        _enter(home)
        os.close(home)
        made.end()


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
