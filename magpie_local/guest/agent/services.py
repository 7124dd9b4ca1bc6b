"""What the agent does for its host beside the script: the workspace, ssh, and a clean end of the guest."""

from __future__ import annotations

import time

from magpie_local.domain import frames
from magpie_local.guest.agent.background import Trouble, in_background

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any

    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop
    from magpie_local.guest.agent.machine import Disk, Doorman, Machine, Network
    from magpie_local.guest.agent.network import Config
    from magpie_local.guest.agent.outputs import Outputs
    from magpie_local.guest.agent.parcel import Upload
    from magpie_local.guest.agent.runorder import RunOrder

    Message = dict[str, Any]

if not TYPE_CHECKING:
    # The core of `signal`, without the enums that cost an emulated guest a tenth of a second.
    import _signal as signal

#: Seconds between two looks whether the guest's processes have ended.
LOOK = 0.1


class Services:
    """The ops mount, upload, network, ssh and halt, and what the end of a script has to do with them.

    Args:
        loop: the agent's loop.
        log: gets the last mark of a halted guest.
        machine: where the agent runs.
        send: sends a message to the host, if it is there.
    """

    def __init__(self, loop: Loop, log: Log, machine: Machine, send: Callable[[Message], None]) -> None:
        self._loop = loop
        self._log = log
        self._machine = machine
        self._send = send
        self._disk: Disk | None = None
        self._mounted: Message | None = None
        self._doorman: Doorman | None = None
        self._network: Network | None = None
        #: What the network is still to be, one after the other; the first is under way.
        self._configs: list[Config] = []
        #: How the workspace was left.
        self._left: str | None = None
        #: A script's, while they are handed over.
        self._outputs: Outputs | None = None
        self._hurried = False
        #: What is under way that an order has to wait for; empty: nothing.
        self.busy = ""
        #: The guest is coming to its end.
        self.halting = False

    @property
    def folder(self) -> str:
        """Where a script starts: the workspace, where one is mounted."""
        return self._machine.home if self._disk is None else self._disk.path

    def mount(self, message: Message) -> None:
        """Mount a disk; one that is mounted already is mounted."""
        if self._mounted is not None:
            self._send(self._mounted)
            return
        check, disk = message["check"] is True, self._machine.disk(str(message["serial"]), str(message["path"]))
        self.busy = "mounting a disk"
        in_background(self._loop, lambda: disk.mount(check=check), lambda outcome: self._after_mount(disk, outcome))

    def _after_mount(self, disk: Disk, outcome: Message | Trouble) -> None:
        self.busy = ""
        if isinstance(outcome, Trouble):
            self._refuse("mount", outcome)
            return
        self._disk = disk
        self._mounted = {"op": "mounted", **outcome}
        self._send(self._mounted)

    def unpack(self, upload: Upload) -> None:
        """Unpack an upload where the script will start."""
        from magpie_local.guest.agent.uploads import unpack  # not every script has some

        self.busy = "unpacking an upload"
        folder, anywhere = self.folder, self._machine.anywhere
        in_background(
            self._loop, lambda: unpack(upload.file, folder, anywhere=anywhere),
            lambda outcome: self._after_unpack(upload, outcome),
        )  # fmt: skip

    def _after_unpack(self, upload: Upload, outcome: Trouble | None) -> None:
        self.busy = ""
        upload.close()
        if outcome is None:
            self._send({"op": "uploaded"})
        else:
            self._refuse("upload", outcome)

    def network(self, message: Message) -> None:
        """Be on the network as the host says, whatever it has said before; answer when that is so."""
        from magpie_local.guest.agent.network import Config  # not every guest is on a network

        self._configs.append(Config(message))
        if self._network is None:
            self._network = self._machine.network()
        if len(self._configs) == 1:
            self._set_up()

    def _set_up(self) -> None:
        network, config = self._network, self._configs[0]
        assert network is not None
        in_background(self._loop, lambda: network.apply(config), self._after_network)

    def _after_network(self, outcome: Trouble | None) -> None:
        if outcome is None:
            self._send({"op": "networked"})
        else:
            self._refuse("network", outcome)
        self._configs.pop(0)
        if self._configs:
            self._set_up()

    def ssh(self, message: Message) -> None:
        """Open ssh to the owners of some keys; answer once it can be reached."""
        authorized, address = str(message["authorized"]), str(message["address"])
        if self._doorman is None:
            self._doorman = self._machine.doorman(self._loop)
        self._doorman.open(authorized, address, self._after_ssh)

    def _after_ssh(self, outcome: str | Trouble) -> None:
        if isinstance(outcome, Trouble):
            self._refuse("ssh", outcome)
        else:
            self._send({"op": "ssh", "host_key": outcome})

    def wind_up(self, order: RunOrder, done: Callable[[Message], None]) -> None:
        """Hand over a script's outputs and have its data reach the disk; `done` gets what the exit record says of that.

        A persistent guest goes on. Where there is anything to do in another one, all but the agent is ended first.
        """
        if not order.persistent and (order.outputs or self._disk is not None):
            self._close_door()
            self._machine.signal_all(signal.SIGKILL)

        def collected(outputs: Message | Trouble | None) -> None:
            self._outputs = None
            self._settle(order, lambda workspace: done({"workspace": workspace, "outputs": outputs}))

        if not order.outputs:
            collected(None)
            return
        from magpie_local.guest.agent.outputs import Outputs  # not every script has some

        outputs = self._outputs = Outputs(order.outputs, self.folder, order.outputs_limit)
        if self._hurried:
            outputs.hurry()
        in_background(self._loop, lambda: outputs.collect(self._machine.outputs), collected)

    def hurry(self) -> None:
        """Have the outputs end where they are: the script was told to end, and its time is over."""
        self._hurried = True
        if self._outputs is not None:
            self._outputs.hurry()

    def _settle(self, order: RunOrder, done: Callable[[str | None], None]) -> None:
        disk = self._disk
        if disk is None:
            done(None)
        elif order.persistent:
            in_background(self._loop, disk.sync, lambda outcome: done(self._told(outcome)))
        else:
            self._release(done)

    def _release(self, done: Callable[[str | None], None]) -> None:
        disk = self._disk
        if disk is None:
            done(self._left)
            return

        def released(outcome: str | Trouble) -> None:
            self._left = self._told(outcome)
            self._disk = None
            done(self._left)

        in_background(self._loop, disk.release, released)

    def _told(self, outcome: str | Trouble | None) -> str | None:
        """Return how the workspace was left; trouble goes into the log, where the user finds it."""
        if not isinstance(outcome, Trouble):
            return outcome
        self._log.mark(frames.NOTE, str(outcome).encode())
        return "busy"

    def halt(self, grace: float, nonce: str) -> None:
        """End all processes, SIGKILL after `grace` seconds, unmount the workspace, and end the guest."""
        self.halting = True
        self._close_door()
        self._machine.signal_all(signal.SIGTERM)
        self._machine.signal_all(signal.SIGCONT)  # a stopped process gets the SIGTERM only when continued
        self._await_end(time.monotonic() + grace, nonce)

    def _await_end(self, give_up: float, nonce: str) -> None:
        if self._machine.others() and time.monotonic() < give_up:
            self._loop.after(min(LOOK, max(0.0, give_up - time.monotonic())), lambda: self._await_end(give_up, nonce))
            return
        self._machine.signal_all(signal.SIGKILL)
        self._release(lambda workspace: self._halted(nonce, workspace))

    def _halted(self, nonce: str, workspace: str | None) -> None:
        self._log.mark(frames.HALT, frames.pack({"nonce": nonce, "workspace": workspace}))
        self._send({"op": "halted", "workspace": workspace})
        self._loop.stop()

    def _close_door(self) -> None:
        if self._doorman is not None:
            self._doorman.close()

    def _refuse(self, op: str, reason: object) -> None:
        self._send({"op": "refused", "to": op, "message": str(reason)})
