"""A doorbell between the processes that have one state directory open.

Each process binds a datagram socket in `bells/`; whoever changed something rings all of them. A ring carries nothing:
the truth is in the
store, and whoever waits also looks by itself now and then, so a lost ring costs time only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from typing import TYPE_CHECKING

from magpie_local.engine.files import private_folder

if TYPE_CHECKING:
    from pathlib import Path


class Bell:
    """This process's bell, and the way to ring all others.

    Args:
        folder: where the bells of this state directory are; made 0700 where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(3)}"
        self._socket: socket.socket | None = None
        self._rung = asyncio.Event()

    def open(self) -> None:
        """Bind the socket and listen to it on the running loop."""
        private_folder(self._folder)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(self._path))
        asyncio.get_running_loop().add_reader(self._socket, self._heard)

    def close(self) -> None:
        """Take the bell down; closing twice is nothing."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._path.unlink(missing_ok=True)
        self._wake()

    def ring(self) -> None:
        """Wake everyone who waits, here and in the other processes; never blocks, never fails."""
        self._wake()
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name != self._path.name:
                    self._ring_one(self._folder / name)

    def listen(self) -> asyncio.Event:
        """Return the next ring. Take it before looking at the store, so that a ring in between is not missed."""
        return self._rung

    async def wait(self, ring: asyncio.Event, seconds: float) -> None:
        """Return when `ring` has come, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ring.wait()

    def _ring_one(self, path: Path) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(b"\0", os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # its process died
        except OSError:
            pass  # a full queue means that it will wake anyway

    def _heard(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass
        self._wake()

    def _wake(self) -> None:
        # A fresh event for those who wait from now on: a ring is an instant, not a state.
        self._rung.set()
        self._rung = asyncio.Event()
