"""What the host tells the agent: one handler per op. The host always speaks first."""

from __future__ import annotations

import os
from binascii import crc32

from magpie_local.guest.agent.script import Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from magpie_local.guest.agent.control import Control
    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop
    from magpie_local.guest.agent.machine import Machine

    Message = dict[str, Any]

#: Seconds that the guest stays up for the host's last word after the exit record is written.
LAST_WORD = 5.0
#: Seconds that the guest waits for its order: a machine whose host has forgotten it must not stay for ever.
ORDER_PATIENCE = 900.0


class RunOrder:
    """An order to run a script, while its bytes come in. They go to a file: a guest may be small.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the message is no such order.
    """

    def __init__(self, message: Message, path: str) -> None:
        self.attempt = str(message["attempt"])
        self.nonce = str(message["nonce"])
        self.timeout = None if message["timeout"] is None else float(message["timeout"])
        self.env = {str(key): str(value) for key, value in message["env"].items()}
        self.log_limit = int(message["log_limit"])
        self.path = path
        #: Bytes of the script that are still to come.
        self.missing = int(message["script_size"])
        self._expected_crc = int(message["script_crc"])
        self._crc = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o700)

    def take(self, data: bytes) -> None:
        """Take the next bytes of the script.

        Raises:
            ValueError: these are not the bytes that were announced.
        """
        self.missing -= len(data)
        self._crc = crc32(data, self._crc)
        if self.missing < 0 or (self.missing == 0 and self._crc != self._expected_crc):
            raise ValueError("the script was damaged on its way")
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def close(self) -> None:
        """Close the script's file."""
        os.close(self._file)


class Agent:
    """Takes one order in its life and carries it out."""

    def __init__(self, loop: Loop, control: Control, log: Log, machine: Machine) -> None:
        self._loop = loop
        self._control = control
        self._log = log
        self._machine = machine
        #: The order whose bytes are still coming in.
        self._incoming: RunOrder | None = None
        self._script: Script | None = None
        self._attempt: str | None = None
        self._state = "idle"
        self._handlers: dict[str, Callable[[Message], None]] = {
            "hello": self._hello,
            "run": self._run,
            "stop": self._stop,
            "bye": self._bye,
        }
        control.receive = self._receive
        control.lost = self._void
        self._forgotten = loop.after(machine.patience or ORDER_PATIENCE, loop.stop)

    def _receive(self, item: Message | bytes) -> None:
        if isinstance(item, bytes):
            self._take(item)
            return
        handler = self._handlers.get(str(item.get("op")))
        if handler is None:
            self._refuse(f"this agent does not know the op {item.get('op')!r}")
            return
        try:
            handler(item)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._refuse(f"malformed {item['op']}: {error!r}")

    def _hello(self, message: Message) -> None:
        # Each client says it first: half an order before it is another client's.
        self._void()
        self._control.send({"op": "state", "id": message.get("id"), "state": self._state, "attempt": self._attempt})

    def _run(self, message: Message) -> None:
        if self._attempt is not None:
            self._refuse(f"this agent has taken an order before: attempt {self._attempt}")
            return
        self._void()
        self._incoming = RunOrder(message, self._machine.script)
        if self._incoming.missing == 0:
            self._start()

    def _take(self, data: bytes) -> None:
        if self._incoming is None:
            return  # what follows a refused order
        try:
            self._incoming.take(data)
        except ValueError as error:
            self._void(str(error))
            return
        if self._incoming.missing == 0:
            self._start()

    def _start(self) -> None:
        order, self._incoming = self._incoming, None
        assert order is not None
        order.close()
        self._loop.cancel(self._forgotten)
        self._state, self._attempt = "running", order.attempt
        self._script = Script(self._loop, self._log, order, self._exited)
        self._script.start({**self._machine.env, **order.env}, self._machine.home)
        self._control.send({"op": "started"})

    def _stop(self, message: Message) -> None:
        if self._script is not None and self._state == "running":
            self._script.stop(float(message["grace"]))

    def _bye(self, message: Message) -> None:
        self._loop.stop()

    def _exited(self) -> None:
        self._state = "exited"
        self._control.send({"op": "exited"})
        self._loop.after(LAST_WORD, self._loop.stop)

    def _void(self, reason: str = "the order did not come whole") -> None:
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None
            self._refuse(f"{reason}; nothing was started")

    def _refuse(self, reason: str) -> None:
        self._control.send({"op": "refused", "message": reason})
