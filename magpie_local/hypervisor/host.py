"""The libvirt host: a process that holds one libvirt connection for one engine.

Started as a script (python -P host.py) with one end of a socket pair as its standard input; ends when the other end
is closed or the engine's process has died. VMs go on. Only the standard library and libvirt are imported: it is up
within about 0.1 s.

Why a process of its own? Things that don't work, all tried with libvirt 9.0 in the engine's process:

- Closing a connection to qemu:///embed releases nothing: the root stays locked and QEMU's monitors stay connected
  until the process ends. A notebook that closed its client would keep the next leader out for as long as it lives.
- A process can open one embed root in its life, and a child made by os.fork can't use it at all.
- A libvirt call that hangs (F52) leaves a thread that nothing can end; a process can be killed, and libvirt finds
  the VMs again.
- libvirt logs to standard error, which belongs to the user.
- An ended QEMU stays in libvirt's way until its parent has reaped it, and only a process of its own can be that parent.

Wire: a JSON object per line.

    {"id": 1, "verb": "create", "args": ["<domain…"]}                 request
    {"id": 1, "value": …}  or  {"id": 1, "code": 42, "error": "…"}    answer, in any order
    {"event": "gone", "vm": "UUID"}                                   a VM's new condition (domain.vm.Condition)
    {"event": "closed"}                                               libvirt's daemon has gone; reopen
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The XML namespace of our metadata: what makes a VM one of ours.
METADATA = "urn:magpie-local:vm:1"
NO_DOMAIN = 42
NO_METADATA = 80
#: Codes of our own, below libvirt's.
NO_LIBVIRT, BROKEN, CLOSED = -1, -2, -3

#: A remote daemon that is silent for interval x count seconds counts as dead (F47).
_KEEPALIVE = (5, 4)
#: A destroy may hold one for seconds, and looks must not wait behind it.
_WORKERS = 16
#: prctl(2) and waitpid(2)
_PR_SET_CHILD_SUBREAPER, _WNOTHREAD = 36, 0x20000000


class Host:
    """One connection, its verbs, and the channel to the engine."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._connection: Any = None

    def serve(self, owner: int) -> None:
        """Carry out requests until the engine has gone; `owner` is a pidfd of its process.

        A child that the engine's process forked keeps the channel open after its parent's death, so the end of the
        channel alone proves nothing.
        """
        workers = ThreadPoolExecutor(_WORKERS)
        buffer = b""
        try:
            while received := self._receive(owner):
                *lines, buffer = (buffer + received).split(b"\n")
                for line in lines:
                    workers.submit(self._answer, json.loads(line))
        finally:
            # Whatever ended it (an engine that dies with something unread resets the channel), a host that can't be
            # asked must not hold the root. Threads may hang inside libvirt: leave without them.
            os._exit(0)

    def _receive(self, owner: int) -> bytes:
        sources: list[Any] = [self._channel, owner]
        ready, _, _ = select.select(sources, [], [])
        return b"" if owner in ready else self._channel.recv(1 << 16)

    def open(self, uri: str) -> dict[str, object]:
        """Connect, and report changes from now on."""
        import libvirt

        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_pump, args=(libvirt,), daemon=True).start()
        self._connection = connection = libvirt.open(uri)
        connection.registerCloseCallback(lambda *_: self._send({"event": "closed"}), None)
        if "embed" not in uri:
            connection.setKeepAlive(*_KEEPALIVE)
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._changed, None)
        return {"libvirt": libvirt.getVersion(), "qemu": connection.getVersion()}

    def probe(self, emulator: str, architecture: str, machine: str, kind: str) -> None:
        """Have libvirt learn QEMU's capabilities (seconds, the first time) before a VM needs them."""
        self._connection.getDomainCapabilities(emulator, architecture, machine, kind)

    def create(self, xml: str) -> None:
        """Start a transient domain."""
        self._connection.createXML(xml, 0)

    def destroy(self, vm: str) -> None:
        """End a domain at once."""
        self._connection.lookupByUUIDString(vm).destroy()

    def look(self, vm: str) -> dict[str, object]:
        """Return one domain's condition and metadata."""
        return _seen(self._connection.lookupByUUIDString(vm))

    def list(self) -> list[dict[str, object]]:
        """Return every domain that carries our metadata, of whatever state directory."""
        import libvirt

        seen = []
        for domain in self._connection.listAllDomains():
            # A domain can vanish between list and look (F51).
            with contextlib.suppress(libvirt.libvirtError):
                seen.append(_seen(domain))
        return [one for one in seen if one["metadata"] is not None]

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, object] = {"id": request["id"]}
        try:
            answer["value"] = _VERBS[request["verb"]](self, *request["args"])
        except ImportError as error:
            answer |= {"code": NO_LIBVIRT, "error": str(error)}
        # Broad: libvirt is imported lazily, so its error has no name here; and each request needs an answer.
        except Exception as error:
            answer |= {"code": self._code(error), "error": str(error)}
        self._send(answer)

    def _code(self, error: Exception) -> int:
        if not hasattr(error, "get_error_code"):
            return BROKEN
        # A dead connection has many error codes; only libvirt itself tells it from a refused request.
        if self._connection is not None and self._connection.isAlive() != 1:
            return CLOSED
        code = error.get_error_code()
        return code if isinstance(code, int) else BROKEN

    def _send(self, message: dict[str, object]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self._channel.sendall(line)

    def _changed(self, _connection: object, domain: Any, event: int, detail: int, _opaque: object) -> None:
        condition = _condition_after(event, detail)
        if condition is not None:
            self._send({"event": condition, "vm": domain.UUIDString()})


_VERBS: dict[str, Callable[..., object]] = {
    "open": Host.open,
    "probe": Host.probe,
    "create": Host.create,
    "destroy": Host.destroy,
    "look": Host.look,
    "list": Host.list,
}


def _pump(libvirt: Any) -> None:
    try:
        while True:
            libvirt.virEventRunDefaultImpl()
    finally:
        # Deaf to events and answers: better ended, the engine starts another.
        os._exit(1)


def _seen(domain: Any) -> dict[str, object]:
    import libvirt

    try:
        metadata = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != NO_METADATA:
            raise
        metadata = None
    state, reason = domain.state()
    return {"vm": domain.UUIDString(), "metadata": metadata, "condition": _condition(state, reason)}


def _condition(state: int, reason: int) -> str:
    import libvirt

    if state == libvirt.VIR_DOMAIN_PAUSED:
        special = {
            libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "starting",
            libvirt.VIR_DOMAIN_PAUSED_IOERROR: "disk_error",
            libvirt.VIR_DOMAIN_PAUSED_CRASHED: "crashed",
        }
        return special.get(reason, "paused")
    ended = {libvirt.VIR_DOMAIN_CRASHED: "crashed", libvirt.VIR_DOMAIN_SHUTOFF: "gone"}
    # A guest that shuts down is running until its process has ended.
    return ended.get(state, "running")


def _condition_after(event: int, detail: int) -> str | None:
    import libvirt

    if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
        return "disk_error" if detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR else "paused"
    plain = {
        libvirt.VIR_DOMAIN_EVENT_STARTED: "running",
        libvirt.VIR_DOMAIN_EVENT_RESUMED: "running",
        libvirt.VIR_DOMAIN_EVENT_CRASHED: "crashed",
        libvirt.VIR_DOMAIN_EVENT_STOPPED: "gone",
    }
    return plain.get(event)


def _reap_orphans() -> None:
    """Adopt the QEMUs that libvirt starts here, and reap each as soon as it has ended; run by the main thread.

    libvirt leaves its QEMUs to init, and takes one for alive until init has reaped it: in a container that may be 2 s
    later, or never. Orphans come to the main thread, and libvirt's own children stay with the threads that made them.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG | _WNOTHREAD) != (0, 0):
                pass


def main() -> None:
    """Serve the engine whose pidfd is argv[1], over the socket that is standard input."""
    # Blocked before there are threads, so that it interrupts none of libvirt's calls.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    host = Host(socket.socket(fileno=os.dup(0)))
    threading.Thread(target=host.serve, args=(int(sys.argv[1]),)).start()
    _reap_orphans()


if __name__ == "__main__":
    main()
