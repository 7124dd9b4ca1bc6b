"""How gates and switches are started: with a listening socket as standard input, in a session of their own.

The socket is there before the process, so QEMU can connect at once; the program returns when it works, and its own
child goes on, an orphan on purpose: nothing of ours has to be alive for it, or to reap it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds within which a program must have detached itself.
_BUDGET = 30.0
#: Bytes of a UNIX socket's path, without the final zero (unix(7)).
LONGEST_PATH = 107
_SOURCE = Path(__file__).resolve().parents[3]


class StartError(Exception):
    """A program did not come up; tells what it said."""


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path` for this user only; whatever was there makes way.

    Raises:
        StartError: the path is too long (F110), or its folder can't be written.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StartError(f"the path of the socket {path} is longer than {LONGEST_PATH} bytes")
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise StartError(f"can't listen at {path}: {error.strerror}") from error
    return listener


def start(module: str, arguments: Sequence[str], listener: socket.socket, keep: Sequence[int] = ()) -> None:
    """Run a module of this package until it has detached itself; `keep` are descriptors that it inherits.

    Raises:
        StartError.
    """
    # Nothing of our environment: it may hold secrets, and theirs is readable for as long as the VM lives.
    environment = {"PYTHONPATH": str(_SOURCE), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    command = [sys.executable, "-P", "-s", "-S", "-m", f"{__package__}.{module}", *arguments]
    try:
        done = subprocess.run(
            command, stdin=listener.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=keep,
            env=environment, cwd="/", start_new_session=True, timeout=_BUDGET, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StartError(f"it was not up after {_BUDGET:.0f} s") from None
    except OSError as error:
        raise StartError(f"can't start {sys.executable}: {error.strerror}") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise StartError(words[-1] if words else f"it ended with status {done.returncode}")


def detach() -> None:
    """Go on as an orphan that holds nothing of its starter's; the starter's `start` returns."""
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
