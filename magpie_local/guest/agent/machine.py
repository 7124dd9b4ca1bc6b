"""Where the agent runs: a guest, or something that stands in for one (hostprocess)."""

from __future__ import annotations

import os
import sys
import time

from magpie_local.guest.agent.control import VirtioControl
from magpie_local.guest.agent.identity import assume
from magpie_local.guest.agent.processes import living
from magpie_local.guest.agent.renewal import renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, NoReturn, Protocol

    from magpie_local.guest.agent.background import Trouble
    from magpie_local.guest.agent.control import Control
    from magpie_local.guest.agent.loop import Loop
    from magpie_local.guest.agent.network import Config

    class Disk(Protocol):
        """A workspace; all of it blocks."""

        @property
        def path(self) -> str:
            """Where it is mounted."""
            ...

        def mount(self, *, check: bool) -> dict[str, Any]:
            """Mount it; return the fields of the answer, or raise Trouble."""
            ...

        def sync(self) -> None:
            """Have all that was written to it reach the disk."""
            ...

        def release(self) -> Literal["clean", "busy"]:
            """Unmount it."""
            ...

    class Doorman(Protocol):
        """Lets ssh in."""

        def open(self, authorized: str, address: str, done: Callable[[str | Trouble], None]) -> None:
            """Let the owners of keys in at an address; call `done` with the host key, or the Trouble."""
            ...

        def close(self) -> None:
            """Begin to let nobody in."""
            ...

    class Network(Protocol):
        """The network that the place is on."""

        def apply(self, config: Config) -> None:
            """Be on it as `config` says, or raise Trouble; this blocks."""
            ...


CONTROL_PORT, LOG_PORT, OUTPUTS_PORT = "org.magpie.control", "org.magpie.log", "org.magpie.outputs"
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

    `home` is the script's working directory and HOME, `script` the path where its text is kept, `parcel` one
    where much can be kept for a moment; `patience` is how many
    seconds the agent waits for its order (0: as long as it usually does).
    """

    #: Whether absolute names of files are this place's own.
    anywhere = False

    def __init__(self, home: str, script: str, parcel: str, patience: float = 0.0) -> None:
        self.patience = patience
        self.home = home
        self.script = script
        self.parcel = parcel
        self.env = {**_BASE_ENV, "HOME": home}

    def control(self, loop: Loop) -> Control:
        """Open the control port."""
        raise NotImplementedError

    def log(self) -> int:
        """Open the log port."""
        raise NotImplementedError

    def outputs(self) -> int:
        """Open the outputs port."""
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

    def disk(self, serial: str, path: str) -> Disk:
        """Return the disk of that serial, to be mounted at `path`."""
        raise NotImplementedError

    def doorman(self, loop: Loop) -> Doorman:
        """Return what lets ssh in."""
        raise NotImplementedError

    def network(self) -> Network:
        """Return what sets up the network."""
        raise NotImplementedError

    def rehearse(self) -> None:
        """Go the ways that a warm-up script does not, so that they are faster later; leave nothing behind."""

    def others(self) -> bool:
        """Return whether processes live here that are no part of the place itself."""
        raise NotImplementedError

    def signal_all(self, number: int) -> None:
        """Send a signal to each of those."""
        raise NotImplementedError

    def end(self, code: int) -> NoReturn:
        """End this place and everything in it; `code` tells whether the agent failed."""
        raise NotImplementedError


class GuestMachine(Machine):
    """A virtual machine with our virtio-serial ports. Where they are not, this is no guest of ours."""

    anywhere = True

    def __init__(self) -> None:
        # What is uploaded may be more than the memory holds, which /run is in.
        super().__init__("/root", "/run/magpie/script", "/var/tmp/magpie-upload")
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

    def outputs(self) -> int:
        """Open the outputs port, which may block."""
        return os.open(_port(OUTPUTS_PORT), os.O_WRONLY)

    def settle(self, identity: Mapping[str, str]) -> None:
        """Take an identity; twice is as good as once."""
        assume(identity)

    def renew(self, now: float, entropy: bytes) -> None:
        """Take fresh randomness and the time."""
        renew(now, entropy)

    def disk(self, serial: str, path: str) -> Disk:
        """Return the disk of that serial."""
        from magpie_local.guest.agent.workspace import Workspace  # not every guest has one

        return Workspace(serial, path)

    def doorman(self, loop: Loop) -> Doorman:
        """Return OpenSSH's server."""
        from magpie_local.guest.agent.sshd import Sshd  # not every guest is open

        return Sshd(loop)

    def network(self) -> Network:
        """Return the job's network card."""
        from magpie_local.guest.agent.network import Network  # not every guest is on a network

        return Network()

    def rehearse(self) -> None:
        """Load what mounts a workspace and sets up a network, and have it look around."""
        from magpie_local.guest.agent import network, workspace

        workspace.rehearse()
        network.rehearse()

    def others(self) -> bool:
        """Return whether there is a process but PID 1, the agent and the kernel's."""
        return any(one.pid not in (1, os.getpid()) for one in living())

    def signal_all(self, number: int) -> None:
        """Send a signal to all processes but PID 1, the agent and the kernel's, none of which can fork away from it.

        It would be the end of a machine that is no guest of ours.
        """
        if not self._log or os.getppid() != 1:
            return
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            return  # there is none

    def end(self, code: int) -> NoReturn:
        """Power off, at once and from whatever state the guest is in; never a machine that is no guest of ours."""
        if not self._log:
            sys.exit(code)
        os.sync()
        _write("/proc/sysrq-trigger", b"o")
        while True:
            time.sleep(60)


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
