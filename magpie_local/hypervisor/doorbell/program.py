"""One doorbell: it listens at a sleeping VM's port, has the VM woken when somebody comes, and passes them on to it.

    ssh --TCP--> doorbell                 somebody comes, and says something: COMMAND is run, which has the VM woken
                 doorbell <--UNIX-- engine    `w`: make way: the port is the VM's now
    ssh --TCP--> doorbell --TCP--> QEMU   until both have hung up; later ones come to QEMU itself

Standard input is the listening TCP socket; CONTROL is the descriptor of a listening UNIX socket at PATH, where `p` asks
whether it is alive, `w` whether it makes way, and `q` whether it ends; `k` is the answer, once that is done. Only the
standard library is imported. It goes on in the background at once, and ends with the last connection that it passes on,
or when PATH has gone.

Run as: python -m magpie_local.hypervisor.doorbell.program CONTROL PATH LOG -- COMMAND [ARGUMENT]...
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time

from magpie_local.hypervisor.net.start import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds between two looks at the clock.
_TICK = 1.0
#: Seconds until COMMAND is run again for those who still wait: one may fail, or be killed.
_AGAIN = 30.0
#: Seconds that somebody who has not said anything is kept, and that one who has is.
_SILENCE, _PATIENCE = 60.0, 600.0
#: Seconds within which QEMU must answer once it has the port.
_DIAL_BUDGET = 60.0
_CHUNK = 1 << 16


class Caller:
    """Somebody who wants the VM."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.came_at = time.monotonic()
        #: Has said something: scanners of ports do not, SSH programs do at once.
        self.speaks = False

    def leaves(self) -> bool:
        """Look at what came in; return whether that was a goodbye."""
        try:
            self.speaks = bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not self.speaks

    def is_late(self) -> bool:
        """Say whether it has waited long enough."""
        return time.monotonic() - self.came_at > (_PATIENCE if self.speaks else _SILENCE)


class Doorbell:
    """The doorbell of one VM.

    Args:
        door: the TCP socket that listens at the VM's port.
        control: the UNIX socket that listens at `path`.
        path: likewise.
        log: where COMMAND's words go.
        command: has the VM woken.
    """

    def __init__(
        self, door: socket.socket, control: socket.socket, path: str, log: str, command: Sequence[str]
    ) -> None:
        self._door = door
        self._control = control
        self._path = path
        self._log = log
        self._command = command
        self._port: int = door.getsockname()[1]
        self._callers: list[Caller] = []
        self._rung: subprocess.Popen[bytes] | None = None
        self._rung_at = 0.0
        #: The port is to be the VM's now.
        self._is_free = False

    def run(self) -> None:
        """Serve until the VM is awake, then pass on those who have waited."""
        # With its state directory removed, there is nobody left to ask.
        while not self._is_free and os.path.exists(self._path):
            quiet = [caller for caller in self._callers if not caller.speaks]
            sources = [self._door, self._control, *(caller.connection for caller in quiet)]
            ready, _, _ = select.select(sources, [], [], _TICK)
            for caller in quiet:
                if caller.connection in ready and caller.leaves():
                    self._dismiss(caller)
            if self._door in ready:
                self._let_in()
            if self._control in ready:
                self._obey()
            for caller in [one for one in self._callers if one.is_late()]:
                self._dismiss(caller)
            if any(caller.speaks for caller in self._callers):
                self._ring()
        self._pass_on()

    def _let_in(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._door.accept()
            self._callers.append(Caller(connection))

    def _dismiss(self, caller: Caller) -> None:
        self._callers.remove(caller)
        caller.connection.close()

    def _ring(self) -> None:
        """Have the VM woken, unless that is under way."""
        now = time.monotonic()
        if self._rung is not None and (self._rung.poll() is None or now - self._rung_at < _AGAIN):
            return
        self._rung_at = now
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._rung = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        finally:
            os.close(log)

    def _obey(self) -> None:
        """Do what the engine says."""
        with contextlib.suppress(OSError):
            engine, _ = self._control.accept()
            with engine:
                engine.settimeout(_TICK)
                word = engine.recv(1)
                if word in (b"w", b"q"):
                    # Gone before the answer: the next doorbell of this VM makes its own at the same place.
                    os.unlink(self._path)
                    self._control.close()
                    self._door.close()
                with contextlib.suppress(OSError):
                    engine.sendall(b"k")
                if word == b"q":
                    os._exit(0)
                self._is_free = word == b"w"

    def _pass_on(self) -> None:
        if not self._is_free:
            return
        threads = [threading.Thread(target=_connect, args=(one.connection, self._port)) for one in self._callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _connect(caller: socket.socket, port: int) -> None:
    """Pass a connection on to the VM, until both sides have hung up."""
    vm = _dial(port)
    if vm is not None:
        back = threading.Thread(target=_copy, args=(vm, caller))
        back.start()
        _copy(caller, vm)
        back.join()
        vm.close()
    caller.close()


def _dial(port: int) -> socket.socket | None:
    """Return a connection to QEMU; None where it does not come to have the port."""
    give_up = time.monotonic() + _DIAL_BUDGET
    while time.monotonic() < give_up:
        vm = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            vm.connect(("127.0.0.1", port))
            # As long as nobody listens, the kernel may choose the very port as our own, and connect us to ourselves.
            if vm.getsockname() != vm.getpeername():
                vm.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return vm
        vm.close()
        time.sleep(0.02)
    return None


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for connection, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            connection.shutdown(how)


def main(arguments: list[str]) -> None:
    """Be the doorbell whose door is standard input."""
    control, path, log, _, *command = arguments
    door = socket.socket(fileno=os.dup(0))
    door.setblocking(True)
    listener = socket.socket(fileno=int(control))
    detach()
    Doorbell(door, listener, path, log, command).run()


if __name__ == "__main__":
    main(sys.argv[1:])
