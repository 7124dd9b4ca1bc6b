"""The process of a fake VM: `fakevm FOLDER VM_ID LOCK_FD OWNER_FD`, started by FakeHypervisor.

It binds the control socket, goes into the background, registers, waits out the boot delay, and runs the real guest
agent as its child. It adopts every orphan below it, and when the agent ends it kills what is left: nothing survives a
VM that is powered off. Killed from outside it must be stopped first, then its descendants killed, then itself.

A held VM has a warden: a process beside it that kills it when the one behind OWNER_FD (a pidfd; -1 is none) has ended.
It can't be the VM's own, which stands still while the VM is paused.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from magpie_local.testing.processes import kill_descendants, kill_tree, start_time
from magpie_local.testing.registry import Record, Registry

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None)


def main() -> None:
    """Start the VM in the background; return when it runs."""
    folder, vm_id, *descriptors = sys.argv[1:]
    lock, owner = map(int, descriptors)
    os.set_inheritable(lock, False)
    registry = Registry(Path(folder))
    record = registry.read(vm_id)
    assert record is not None
    os.umask(0o077)
    listener = _listen(record.control)
    console = os.open(record.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    news, tell = os.pipe()
    if os.fork() == 0:
        _live(registry, record, listener, console, tell)
    os.close(tell)
    runs = os.read(news, 1)
    if runs and owner >= 0 and os.fork() == 0:
        for descriptor in (lock, listener.fileno(), console, news):
            os.close(descriptor)
        _watch_owner(registry, vm_id, owner)
    os._exit(0 if runs else 1)


def _watch_owner(registry: Registry, vm_id: str, owner: int) -> None:
    """Be the warden; never returns."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        record = registry.read(vm_id)
        if record is None or record.pid is None:
            return
        pid = record.pid
        vm = os.pidfd_open(pid)
        ended, _, _ = select.select([owner, vm], [], [])
        record = registry.read(vm_id)
        if vm not in ended and record is not None and record.held and record.is_alive():
            kill_tree(pid)
    except ProcessLookupError:
        pass  # the VM has ended already
    finally:
        os._exit(0)


def _live(registry: Registry, record: Record, listener: socket.socket, console: int, tell: int) -> None:
    """Be the VM; never returns."""
    try:
        os.setsid()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(console, 1)
        os.dup2(console, 2)
        os.write(1, b"fake vm: booting\n")
        record = replace(record, pid=os.getpid(), started=start_time(os.getpid()))
        registry.write(record)
        _announce(tell)
        _run_guest(record, listener, registry.disks(record.id))
        os.write(1, b"fake vm: powered off\n")
        registry.remove(record)
    except BaseException as error:  # this is a forked child: it must not return into its parent's code
        os.write(2, f"fake vm: {error!r}\n".encode())
    finally:
        os._exit(0)


def _announce(tell: int) -> None:
    try:
        os.write(tell, b"1")
    except BrokenPipeError:
        return  # the starter was killed; the VM goes on
    finally:
        os.close(tell)


def _run_guest(record: Record, listener: socket.socket, disks: Path) -> None:
    time.sleep(record.boot_delay)
    while record.never_ready:
        signal.pause()
    record.home.mkdir(exist_ok=True)
    agent = os.fork()
    if agent == 0:
        _become_agent(record, listener, disks)
    listener.close()
    while os.wait()[0] != agent:
        pass  # an adopted orphan
    kill_descendants(os.getpid())


def _become_agent(record: Record, listener: socket.socket, disks: Path) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    listener.set_inheritable(True)
    bare = str(Path(__file__).with_name("bare.py"))
    command = [sys.executable, "-I", "-S", bare, "magpie_local.guest.agent.main"]
    ports = ["--control", f"fd:{listener.fileno()}", "--log", record.log, "--home", str(record.home)]
    ports += ["--disks", str(disks), "--outputs", record.outputs or os.devnull]
    os.execv(command[0], command + ports)


def _listen(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(8)
    return listener


if __name__ == "__main__":
    main()
