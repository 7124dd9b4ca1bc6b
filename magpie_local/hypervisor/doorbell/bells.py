"""The Doorbells port: a process for each VM that sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.errors import HostError
from magpie_local.hypervisor.net.start import StartError, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from magpie_local.domain.ids import JobId, VmId

#: Seconds within which a doorbell must be up, and answer.
_START_BUDGET, _ANSWER_BUDGET = 30.0, 5.0
_MODULE = f"{__package__}.program"
_SOURCE = Path(__file__).resolve().parents[3]
#: Of our own environment it gets nothing else: what is left of it may hold secrets, and a doorbell lives for long.
_PASSED_ON = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER"})


class TcpDoorbells:
    """Doorbells on the host's loopback.

    Args:
        path: says where a VM's doorbell is told things.
        command: returns what has the VM of a job woken.
        environment: for that, beside where people and programs keep their files.
        log: receives what it says.
    """

    def __init__(
        self, path: Callable[[VmId], Path], command: Callable[[JobId], Sequence[str]], environment: Mapping[str, str],
        log: Path,
    ) -> None:  # fmt: skip
        self._path = path
        self._command = command
        kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("XDG_")}
        self._environment = {"PATH": os.defpath, **kept, **environment}
        self._log = log

    async def hang(self, vm_id: VmId, job_id: JobId, port: int) -> int:
        """Have a doorbell listen at `port`, or another one where that is taken; return which.

        Raises:
            HostError: it can't be started.
        """
        return await asyncio.to_thread(self._hang, self._path(vm_id), job_id, port)

    async def make_way(self, vm_id: VmId) -> None:
        """Close a doorbell's port, and have those who wait passed on."""
        await asyncio.to_thread(_say, self._path(vm_id), b"w")

    async def remove(self, vm_id: VmId) -> None:
        """End a doorbell, and send away those who wait."""
        await asyncio.to_thread(_say, self._path(vm_id), b"q")

    def _hang(self, path: Path, job_id: JobId, port: int) -> int:
        if _say(path, b"p"):
            return port
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                door = stack.enter_context(_door(port))
                control = stack.enter_context(listen(path))
                self._start(path, job_id, door, control)
            except (OSError, StartError, subprocess.SubprocessError) as error:
                path.unlink(missing_ok=True)
                raise HostError(f"The doorbell of job {job_id} can't be started: {error}.", hint="") from error
            found: int = door.getsockname()[1]
            return found

    def _start(self, path: Path, job_id: JobId, door: socket.socket, control: socket.socket) -> None:
        number = control.fileno()
        command = [
            sys.executable, "-P", "-s", "-S", "-m", _MODULE, str(number), str(path), str(self._log), "--",
            *self._command(job_id),
        ]  # fmt: skip
        source = os.pathsep.join(filter(None, [str(_SOURCE), self._environment.get("PYTHONPATH")]))
        done = subprocess.run(
            command, stdin=door.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=[number],
            env={**self._environment, "PYTHONPATH": source}, cwd="/", start_new_session=True,
            timeout=_START_BUDGET, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise StartError(words[-1] if words else f"it ended with status {done.returncode}")


def _door(port: int) -> socket.socket:
    """Return a socket that listens at a port of the loopback; at another one where that is somebody else's."""
    try:
        return _listening(port)
    except OSError:
        return _listening(0)


def _listening(port: int) -> socket.socket:
    # Its connections stay at the port when it closes, and QEMU must be able to have it nevertheless.
    return socket.create_server(("127.0.0.1", port), backlog=64, reuse_port=False)


def _say(path: Path, word: bytes) -> bool:
    """Tell a doorbell something; return whether there is one, and it has done that."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(_ANSWER_BUDGET)
        connection.connect(os.fspath(path))
        connection.sendall(word)
        return connection.recv(1) == b"k"
    return False
