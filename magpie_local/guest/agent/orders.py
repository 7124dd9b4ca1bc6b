"""What the host tells the agent: one handler per op. The host always speaks first."""

from __future__ import annotations

import time

from magpie_local.guest.agent.identity import FIELDS
from magpie_local.guest.agent.parcel import Upload
from magpie_local.guest.agent.runorder import RunOrder
from magpie_local.guest.agent.script import Script
from magpie_local.guest.agent.services import Services
from magpie_local.guest.agent.warmup import Warmup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from magpie_local.guest.agent.control import Control
    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop, Timer
    from magpie_local.guest.agent.machine import Machine

    Message = dict[str, Any]

#: Seconds that the outputs of a script may take beyond the grace that it was given when it was told to end.
OUTPUTS_GRACE = 5.0
#: Seconds that the guest stays up for the host's last word after the exit record is written.
LAST_WORD = 5.0
#: Seconds that the guest waits for its order: a machine whose host has forgotten it must not stay for ever.
ORDER_PATIENCE = 900.0


class Agent:
    """Takes one order in its life and carries it out."""

    def __init__(self, loop: Loop, control: Control, log: Log, machine: Machine) -> None:
        self._loop = loop
        self._control = control
        self._log = log
        self._machine = machine
        #: Seconds that a halt has left, while the script it waits for is ending.
        self._halt_by: float | None = None
        #: The order or upload whose bytes are still coming in.
        self._incoming: RunOrder | Upload | None = None
        self._script: Script | None = None
        self._services = Services(loop, log, machine, control.send)
        self._attempt: str | None = None
        self._nonce = ""
        self._persistent = False
        self._state = "idle"
        self._settled = False
        self._exercising = False
        self._forgotten: Timer | None = None
        self._handlers: dict[str, Callable[[Message], None]] = {
            "hello": self._hello,
            "settle": self._settle,
            "renew": self._renew,
            "exercise": self._exercise,
            "mount": self._mount,
            "ssh": self._ssh,
            "network": self._network,
            "upload": self._upload,
            "run": self._run,
            "stop": self._stop,
            "interrupt": self._interrupt,
            "halt": self._halt,
            "bye": self._bye,
        }
        control.receive = self._receive
        control.lost = self._void
        self._be_patient()

    def _be_patient(self) -> None:
        self._loop.cancel(self._forgotten)
        self._forgotten = self._loop.after(self._machine.patience or ORDER_PATIENCE, self._loop.stop)

    def _receive(self, item: Message | bytes) -> None:
        if isinstance(item, bytes):
            self._take(item)
            return
        op = item.get("op")
        handler = self._handlers.get(str(op))
        if handler is None:
            self._refuse(op, f"this agent does not know the op {op!r}")
            return
        try:
            handler(item)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._refuse(op, f"malformed {op}: {error!r}")

    def _hello(self, message: Message) -> None:
        # Each client says it first: half an order before it is another client's.
        self._void()
        state = {"state": self._state, "attempt": self._attempt, "settled": self._settled}
        self._control.send({"op": "state", "id": message.get("id"), **state})

    def _settle(self, message: Message) -> None:
        if not self._is_free("settle"):
            return
        identity = {field: str(message[field]) for field in FIELDS}
        try:
            self._machine.renew(float(message["now"]), bytes.fromhex(message["entropy"]))
            self._machine.settle(identity)
        except OSError as error:
            self._refuse("settle", f"it can't take its identity: {error}")
            return
        self._settled = True
        self._be_patient()
        self._control.send({"op": "settled"})

    def _renew(self, message: Message) -> None:
        try:
            self._machine.renew(float(message["now"]), bytes.fromhex(message["entropy"]))
        except OSError as error:
            self._refuse("renew", f"it can't renew its randomness and time: {error}")
            return
        self._control.send({"op": "renewed"})

    def _exercise(self, message: Message) -> None:
        if not self._is_free("exercise"):
            return
        self._void()
        # A VM is exercised before it is frozen, and what goes on from there must not keep its identity.
        self._settled = False
        self._exercising = True
        self._machine.rehearse()
        Warmup(self._loop, self._machine, self._exercised)

    def _exercised(self, code: int) -> None:
        self._exercising = False
        self._be_patient()
        if code == 0:
            self._control.send({"op": "exercised"})
        else:
            self._refuse("exercise", f"the warm-up ended with code {code}")

    def _run(self, message: Message) -> None:
        if not self._is_free("run"):
            return
        self._void()
        self._machine.locate()
        self._expect(RunOrder(message, self._machine.script))

    def _upload(self, message: Message) -> None:
        if not self._is_free("upload"):
            return
        self._void()
        self._machine.locate()
        self._be_patient()
        try:
            upload = Upload(message, self._machine.parcel)
        except OSError as error:
            self._refuse("upload", f"it can't be kept: {error}")
            return
        self._expect(upload)

    def _is_free(self, op: str) -> bool:
        """Return whether nothing has been asked that stands in the way of `op`; refuse it otherwise."""
        if self._attempt is not None:
            self._refuse(op, f"this agent has taken an order before: attempt {self._attempt}")
        elif self._exercising:
            self._refuse(op, "this agent is at its warm-up")
        elif self._services.busy:
            self._refuse(op, f"this agent is {self._services.busy}")
        elif self._is_halting():
            self._refuse(op, "this agent is ending its guest")
        else:
            return True
        return False

    def _is_halting(self) -> bool:
        return self._halt_by is not None or self._services.halting

    def _mount(self, message: Message) -> None:
        if self._is_free("mount"):
            self._be_patient()
            self._services.mount(message)

    def _ssh(self, message: Message) -> None:
        if self._is_whole("ssh"):
            self._services.ssh(message)

    def _network(self, message: Message) -> None:
        if self._is_whole("network"):
            self._services.network(message)

    def _is_whole(self, op: str) -> bool:
        """Return whether this is neither at its warm-up nor at its end; refuse `op` otherwise."""
        if self._exercising or self._is_halting():
            self._refuse(op, "this agent is at its warm-up, or ending its guest")
            return False
        if self._attempt is None:
            self._be_patient()
        return True

    def _halt(self, message: Message) -> None:
        grace = float(message["grace"])
        if self._exercising or self._services.busy:
            self._refuse("halt", f"this agent is {self._services.busy or 'at its warm-up'}")
        elif self._script is not None and self._state == "running":
            self._halt_by = time.monotonic() + grace
            self._end_script(grace)  # its exit record comes first
        elif not self._services.halting:
            self._services.halt(grace, self._nonce)

    def _expect(self, parcel: RunOrder | Upload) -> None:
        self._incoming = parcel
        self._take(b"")

    def _take(self, data: bytes) -> None:
        parcel = self._incoming
        if parcel is None:
            return  # what follows a refused order
        try:
            parcel.take(data)
        except (ValueError, OSError) as error:
            self._void(str(error))
            return
        if parcel.missing > 0:
            return
        self._incoming = None
        if isinstance(parcel, Upload):
            self._be_patient()
            self._services.unpack(parcel)
        else:
            self._start(parcel)

    def _start(self, order: RunOrder) -> None:
        order.close()
        began = time.monotonic_ns()
        try:
            self._machine.renew(order.now, order.entropy)
        except OSError as error:
            self._refuse("run", f"it can't renew its randomness and time: {error}; nothing was started")
            return
        renewed = time.monotonic_ns()
        self._loop.cancel(self._forgotten)
        self._state, self._attempt, self._nonce = "running", order.attempt, order.nonce
        self._persistent = order.persistent
        self._script = Script(self._loop, self._log, order, self._exited, self._wind_up(order))
        self._script.start({**self._machine.env, **order.env}, self._services.folder)
        renew_us, spawn_us = (renewed - began) // 1000, (time.monotonic_ns() - renewed) // 1000
        self._control.send({"op": "started", "renew_us": renew_us, "spawn_us": spawn_us})

    def _stop(self, message: Message) -> None:
        if self._script is not None and self._state == "running":
            self._end_script(float(message["grace"]))

    def _interrupt(self, message: Message) -> None:
        if self._script is not None and self._state == "running":
            self._script.interrupt()

    def _end_script(self, grace: float) -> None:
        assert self._script is not None
        self._script.stop(grace)
        self._loop.after(grace + OUTPUTS_GRACE, self._services.hurry)

    def _bye(self, message: Message) -> None:
        if not self._persistent and not self._is_halting():
            self._loop.stop()

    def _wind_up(self, order: RunOrder) -> Callable[[Callable[[Message], None]], None]:
        return lambda done: self._services.wind_up(order, done)

    def _exited(self, code: int) -> None:
        self._state = "exited"
        self._control.send({"op": "exited"})
        if self._halt_by is not None:
            left, self._halt_by = max(0.0, self._halt_by - time.monotonic()), None
            # The script still has to be buried.
            self._loop.after(0, lambda: self._services.halt(left, self._nonce))
        elif not self._persistent:
            self._loop.after(LAST_WORD, self._loop.stop)

    def _void(self, reason: str = "the bytes did not come whole") -> None:
        if self._incoming is not None:
            op = self._incoming.op
            self._incoming.close()
            self._incoming = None
            self._refuse(op, f"{reason}; nothing was {'started' if op == 'run' else 'unpacked'}")

    def _refuse(self, op: object, reason: str) -> None:
        self._control.send({"op": "refused", "to": str(op), "message": reason})
