"""Run the agent.

In a guest without arguments; as a process of the host with `--control SOCKET --log FILE --home FOLDER`, where SOCKET
is a path to listen at, or `fd:N` for a socket that listens already. `--disks FOLDER` has a link for each disk,
`--outputs FILE` gets what comes out of the outputs port.
"""

from __future__ import annotations

import os
import sys

from magpie_local.domain import frames
from magpie_local.guest.agent.log import Log
from magpie_local.guest.agent.loop import Loop
from magpie_local.guest.agent.machine import GuestMachine
from magpie_local.guest.agent.orders import Agent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from magpie_local.guest.agent.machine import Machine


def main() -> NoReturn:
    """Serve one order, then end the machine."""
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    serve(_host_process(given) if given else GuestMachine())


def _host_process(given: dict[str, str]) -> Machine:
    from magpie_local.guest.agent.hostprocess import HostProcess  # a guest does without it

    return HostProcess(
        given["--control"], given["--log"], given["--home"], disks=given.get("--disks", ""),
        outputs=given.get("--outputs", os.devnull), patience=float(given.get("--patience", 0)),
    )  # fmt: skip


def serve(machine: Machine) -> NoReturn:
    """Serve one order on `machine`, then end it; also when the agent itself fails."""
    log = None
    code = 1
    try:
        machine.prepare()
        log = Log(machine.log())
        loop = Loop()
        Agent(loop, machine.control(loop), log, machine)
        loop.run()
        code = 0
    except BaseException:  # nobody else is there to tell, and a guest without its agent must not stay
        _tell(log)
    finally:
        machine.end(code)


def _tell(log: Log | None) -> None:
    import traceback  # only now: it costs start time

    text = traceback.format_exc()
    print(text, file=sys.stderr, flush=True)
    if log is not None:
        log.mark(frames.NOTE, f"the agent failed:\n{text}".encode())


if __name__ == "__main__":
    main()
