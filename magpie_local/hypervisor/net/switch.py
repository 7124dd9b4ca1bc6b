"""The switch of one private network: a process that passes Ethernet frames between the VMs connected to it.

Standard input is a listening UNIX socket in a folder that only this user can enter; every connection is a port. It
lives as long as it has one: nothing of ours needs to be alive, and when the last VM has gone, so has the switch. It
holds the network's lock (flock) all that time, so there is never a second one.

Run as: python -m magpie_local.hypervisor.net.switch LOCK, the number of the locked file's descriptor.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
from collections import deque

from magpie_local.hypervisor.net.bridge import Bridge
from magpie_local.hypervisor.net.frames import CHUNK, HEADER, Malformed, Splitter
from magpie_local.hypervisor.net.start import detach

#: Seconds until the first connection must have been made.
_FIRST_BUDGET = 60.0
#: Bytes kept for a port that does not read (its VM is paused): further frames are lost, as on any full wire.
_QUEUE_LIMIT = 4 * 1024 * 1024
#: Frames sent at once, below the kernel's limit (IOV_MAX).
_BATCH = 512


class Port:
    """A connection, and what waits for it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.splitter = Splitter()
        self._queue: deque[bytes | memoryview] = deque()
        self._size = 0

    @property
    def waits(self) -> bool:
        """Whether something is left to be sent."""
        return bool(self._queue)

    def put(self, frame: bytes) -> None:
        """Have a frame sent; drop it where too much waits already."""
        if self._size + len(frame) <= _QUEUE_LIMIT:
            self._queue.append(frame)
            self._size += len(frame)

    def flush(self) -> None:
        """Send what can be sent now."""
        while self._queue:
            batch = [self._queue[index] for index in range(min(_BATCH, len(self._queue)))]
            try:
                sent = self.connection.sendmsg(batch)
            except BlockingIOError:
                return
            self._size -= sent
            while self._queue and sent >= len(self._queue[0]):
                sent -= len(self._queue.popleft())
            if sent:
                self._queue[0] = memoryview(self._queue[0])[sent:]


class Switch:
    """The ports of one network."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._bridge = Bridge()
        self._ports: dict[int, Port] = {}
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Pass frames until the last port has gone."""
        budget: float | None = _FIRST_BUDGET
        while ready := self._selector.select(budget):
            for key, events in ready:
                self._serve(key.fd, events)
            budget = None if self._ports else 0.0

    def _serve(self, number: int, events: int) -> None:
        if number == self._listener.fileno():
            self._accept()
        elif number in self._ports:
            # A guest that does not speak the format, or has gone: either way its port is closed.
            try:
                self._exchange(number, events)
            except (OSError, EOFError, Malformed):
                self._remove(number)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            number = connection.fileno()
            self._ports[number] = Port(connection)
            self._bridge.ports.add(number)
            self._selector.register(connection, selectors.EVENT_READ)

    def _exchange(self, number: int, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._pass_on(number)
        if events & selectors.EVENT_WRITE:
            self._flush(number)

    def _pass_on(self, number: int) -> None:
        port = self._ports[number]
        data = port.connection.recv(CHUNK)
        if not data:
            raise EOFError
        reached: set[int] = set()
        try:
            for frame in port.splitter.feed(data):
                targets = self._bridge.targets(number, frame[HEADER:])
                copy = bytes(frame)
                for target in targets:
                    self._ports[target].put(copy)
                reached.update(targets)
        finally:
            for target in reached:
                self._flush_other(target)

    def _flush_other(self, number: int) -> None:
        # Its own end is found when it is read.
        with contextlib.suppress(OSError):
            self._flush(number)

    def _flush(self, number: int) -> None:
        port = self._ports[number]
        port.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.waits else 0)
        if self._selector.get_key(port.connection).events != wanted:
            self._selector.modify(port.connection, wanted)

    def _remove(self, number: int) -> None:
        port = self._ports.pop(number)
        self._bridge.remove(number)
        self._selector.unregister(port.connection)
        port.connection.close()


def main(arguments: list[str]) -> None:
    """Be the switch whose listening socket is standard input."""
    listener = socket.socket(fileno=os.dup(0))
    os.set_inheritable(int(arguments[0]), False)
    detach()
    Switch(listener).run()


if __name__ == "__main__":
    main(sys.argv[1:])
