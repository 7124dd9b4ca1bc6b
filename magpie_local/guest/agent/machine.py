"""Where the agent runs: a guest, or a process of the host that stands in for one (tests)."""

from __future__ import annotations

import os
import sys
import time

from magpie_local.guest.agent.control import SocketControl, VirtioControl
from magpie_local.guest.agent.identity import assume, put
from magpie_local.guest.agent.renewal import renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from magpie_local.guest.agent.control import Control
    from magpie_local.guest.agent.loop import Loop

CONTROL_PORT, LOG_PORT = "org.magpie.control", "org.magpie.log"
_PORTS = "/sys/class/virtio-ports"
#: Seconds within which the kernel must have found the ports.
_PORTS_PATIENCE = 30.0
_BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/bash",
    "USER": "root",
    "LOGNAME": "root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}


class Machine:
    """What the agent asks of the place where it runs.

    `home` is the script's working directory and HOME, `script` the path where its text is kept; `patience` is how many
    seconds the agent waits for its order (0: as long as it usually does).
    """

    def __init__(self, home: str, script: str, patience: float = 0.0) -> None:
        self.patience = patience
        self.home = home
        self.script = script
        self.env = {**_BASE_ENV, "HOME": home}

    def control(self, loop: Loop) -> Control:
        """Open the control port."""
        raise NotImplementedError

    def log(self) -> int:
        """Open the log port."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Take the privileges that the agent needs."""

    def locate(self) -> None:
        """Bring `home` and `script` up to date, where the place may have been moved."""

    def settle(self, identity: Mapping[str, str]) -> None:
        """Take an identity; twice is as good as once."""
        raise NotImplementedError

    def renew(self, now: float, entropy: bytes) -> None:
        """Take fresh randomness and the time."""
        raise NotImplementedError

    def end(self, code: int) -> NoReturn:
        """End this place and everything in it; `code` tells whether the agent failed."""
        raise NotImplementedError


class GuestMachine(Machine):
    """A virtual machine with our two virtio-serial ports. Where they are not, this is no guest of ours."""

    def __init__(self) -> None:
        super().__init__("/root", "/run/magpie/script")
        self._control = self._log = ""

    def prepare(self) -> None:
        """Run before everything else in the guest.

        As a real-time process on the only CPU it is awake at once at each write of the script: that keeps stdout and
        stderr in order, and the agent alive under a fork bomb. Children start as ordinary processes again.
        """
        self._control, self._log = _port(CONTROL_PORT), _port(LOG_PORT)
        os.makedirs("/run/magpie", 0o700, exist_ok=True)
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        _write("/proc/self/oom_score_adj", b"-1000")

    def control(self, loop: Loop) -> Control:
        """Open the control port, which must never block."""
        return VirtioControl(loop, os.open(self._control, os.O_RDWR | os.O_NONBLOCK))

    def log(self) -> int:
        """Open the log port, which may block."""
        return os.open(self._log, os.O_WRONLY)

    def settle(self, identity: Mapping[str, str]) -> None:
        """Take an identity; twice is as good as once."""
        assume(identity)

    def renew(self, now: float, entropy: bytes) -> None:
        """Take fresh randomness and the time."""
        renew(now, entropy)

    def end(self, code: int) -> NoReturn:
        """Power off, at once and from whatever state the guest is in; never a machine that is no guest of ours."""
        if not self._log:
            sys.exit(code)
        os.sync()
        _write("/proc/sysrq-trigger", b"o")
        while True:
            time.sleep(60)


class HostProcess(Machine):
    """A process of the host: a listening socket and a file are its ports. Who started it cleans up after it.

    The host's own identity, randomness and clock are none of its business: what it was told lies in `.magpie` of its
    home, a file for each field.
    """

    def __init__(self, control: str, log: str, home: str, patience: float = 0.0) -> None:
        super().__init__(home, log + ".script", patience)
        self._control = control
        self._log = log

    def prepare(self) -> None:
        """Stand in the home folder: whoever moves that moves us."""
        os.chdir(self.home)

    def locate(self) -> None:
        """Follow the home folder: a waiting VM's goes to its job."""
        self.home = self.env["HOME"] = os.getcwd()
        self.script = os.path.join(os.path.dirname(self.home), os.path.basename(self.script))

    def control(self, loop: Loop) -> Control:
        """Listen at the path, or take over the listening socket of `fd:N`."""
        import socket  # a guest does without it

        if self._control.startswith("fd:"):
            listener = socket.socket(fileno=int(self._control[3:]))
            listener.set_inheritable(False)
            return SocketControl(loop, listener)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        listener.bind(self._control)
        os.umask(before)
        listener.listen()
        return SocketControl(loop, listener)

    def log(self) -> int:
        """Open the file at its end."""
        return os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def settle(self, identity: Mapping[str, str]) -> None:
        """Note an identity."""
        self._note(identity)

    def renew(self, now: float, entropy: bytes) -> None:
        """Note the time and the randomness."""
        self._note({"now": repr(now), "entropy": entropy.hex()})

    def _note(self, facts: Mapping[str, str]) -> None:
        self.locate()
        os.makedirs(f"{self.home}/.magpie", 0o700, exist_ok=True)
        for name, value in facts.items():
            put(f"{self.home}/.magpie/{name}", value, 0o600)

    def end(self, code: int) -> NoReturn:
        """Exit."""
        sys.exit(code)


def _port(name: str) -> str:
    """Return the device of the virtio-serial port called `name`, as soon as the kernel has it."""
    give_up = time.monotonic() + _PORTS_PATIENCE
    while time.monotonic() < give_up:
        for entry in os.listdir(_PORTS) if os.path.isdir(_PORTS) else ():
            if _read(f"{_PORTS}/{entry}/name").strip() == name.encode():
                return f"/dev/{entry}"
        time.sleep(0.01)
    raise FileNotFoundError(f"no virtio-serial port is called {name}")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
