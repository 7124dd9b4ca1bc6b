"""A process of the host that stands in for a guest (tests)."""

from __future__ import annotations

import os
import socket
import sys

from magpie_local.guest.agent.background import Trouble
from magpie_local.guest.agent.control import SocketControl
from magpie_local.guest.agent.identity import put
from magpie_local.guest.agent.machine import Machine
from magpie_local.guest.agent.processes import descendants, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, NoReturn

    from magpie_local.guest.agent.control import Control
    from magpie_local.guest.agent.loop import Loop
    from magpie_local.guest.agent.network import Config

_PR_SET_CHILD_SUBREAPER = 36


class HostProcess(Machine):
    """A process of the host: a listening socket and a file are its ports. Who started it cleans up after it.

    The host's own identity, randomness and clock are none of its business: what it was told lies in `.magpie` of its
    home, a file for each field.
    """

    def __init__(
        self, control: str, log: str, home: str, *, disks: str = "", outputs: str = os.devnull, patience: float = 0.0
    ) -> None:
        super().__init__(home, log + ".script", log + ".upload", patience)
        self._control = control
        self._log = log
        self._disks = disks
        self._outputs = outputs

    def prepare(self) -> None:
        """Stand in the home folder: whoever moves that moves us. Adopt orphans, so that they stay ours."""
        import ctypes  # for this call only

        os.chdir(self.home)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def locate(self) -> None:
        """Follow the home folder: a waiting VM's goes to its job."""
        self.home = self.env["HOME"] = os.getcwd()
        beside = os.path.dirname(self.home)
        self.script = os.path.join(beside, os.path.basename(self.script))
        self.parcel = os.path.join(beside, os.path.basename(self.parcel))

    def control(self, loop: Loop) -> Control:
        """Listen at the path, or take over the listening socket of `fd:N`."""
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

    def outputs(self) -> int:
        """Open the file at its end."""
        return os.open(self._outputs, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def settle(self, identity: Mapping[str, str]) -> None:
        """Note an identity."""
        self.note(identity)

    def renew(self, now: float, entropy: bytes) -> None:
        """Note the time and the randomness."""
        self.note({"now": repr(now), "entropy": entropy.hex()})

    def note(self, facts: Mapping[str, str]) -> None:
        """Write down what a guest would take on."""
        self.locate()
        os.makedirs(f"{self.home}/.magpie", 0o700, exist_ok=True)
        for name, value in facts.items():
            put(f"{self.home}/.magpie/{name}", value, 0o600)

    def disk(self, serial: str, path: str) -> HostDisk:
        """Return the folder that stands for a disk."""
        self.locate()
        return HostDisk(f"{self._disks}/{serial}", f"{self.home}/{os.path.basename(path)}")

    def doorman(self, loop: Loop) -> HostDoorman:
        """Return what only notes who may come in."""
        self.locate()
        return HostDoorman(self)

    def network(self) -> HostNetwork:
        """Return what only notes its network."""
        return HostNetwork(self)

    def others(self) -> bool:
        """Return whether anything lives of what the agent has started."""
        return bool(descendants(os.getpid()))

    def signal_all(self, number: int) -> None:
        """Send a signal to what the agent has started, with all that this has started."""
        send(descendants(os.getpid()), number)

    def end(self, code: int) -> NoReturn:
        """Exit."""
        sys.exit(code)


class HostDisk:
    """A folder beside a disk's file, `FILE.files`: what a guest would find on it. It is mounted as a link.

    Args:
        disk: a link to the disk's file.
        path: where the link to the folder goes.
    """

    def __init__(self, disk: str, path: str) -> None:
        self._disk = disk
        self.path = path

    def mount(self, *, check: bool) -> dict[str, Any]:
        """Make the folder, where there is none, and the link.

        Raises:
            Trouble: there is no such disk.
        """
        serial = os.path.basename(self._disk)
        try:
            file = os.readlink(self._disk)
        except OSError:
            raise Trouble(f"no disk has the serial {serial}") from None
        if not os.path.isfile(file):
            raise Trouble(f"the disk {serial} can't be read: {file} is no file")
        os.makedirs(f"{file}.files", 0o700, exist_ok=True)
        os.symlink(f"{file}.files", self.path)
        return {"fsck": 0 if check else None, "grown": False, "took_us": 0, "note": ""}

    def sync(self) -> None:
        """Do nothing: the host's kernel lives on."""

    def release(self) -> Literal["clean", "busy"]:
        """Remove the link."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return "busy"  # the home was moved, or cleared
        return "clean"


class HostDoorman:
    """Notes whom it would let in, and where."""

    def __init__(self, machine: HostProcess) -> None:
        self._machine = machine

    def open(self, authorized: str, address: str, done: Callable[[str | Trouble], None]) -> None:
        """Answer with the public half of the host key that it was settled with."""
        self._machine.note({"authorized": authorized, "address": address})
        try:
            with open(f"{self._machine.home}/.magpie/host_key_public") as file:
                done(" ".join(file.read().split()[:2]))
        except FileNotFoundError:
            done(Trouble("this VM has no host key yet: it must be settled first"))

    def close(self) -> None:
        """Do nothing."""


class HostNetwork:
    """Notes the network that it would be on."""

    def __init__(self, machine: HostProcess) -> None:
        self._machine = machine

    def apply(self, config: Config) -> None:
        """Write it down, a line for each of several."""
        self._machine.locate()
        facts = {"addresses": config.addresses, "gateways": config.gateways, "dns": config.dns, "hosts": config.hosts}
        self._machine.note({name: "".join(f"{line}\n" for line in lines) for name, lines in facts.items()})
        self._machine.note({"mtu": str(config.mtu), "authorities": "".join(config.authorities.values())})
