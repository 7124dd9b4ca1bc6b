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
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The XML namespace of our metadata: what makes a VM one of ours.
METADATA = "urn:magpie-local:vm:1"
NO_DOMAIN = 42
NO_METADATA = 80
#: Codes of our own, below libvirt's.
NO_LIBVIRT, BROKEN, CLOSED, BAD_SNAPSHOT = -1, -2, -3, -4

#: A remote daemon that is silent for interval x count seconds counts as dead (F47).
_KEEPALIVE = (5, 4)
#: A destroy may hold one for seconds, and looks must not wait behind it.
_WORKERS = 16
#: Memory is left out of a device state where it is in a shared file.
_MEMORY_STAYS = [{"capability": "x-ignore-shared", "state": True}]
#: What QEMU calls itself once its state has been saved.
_FROZEN = ("postmigrate", "finish-migrate")
#: The user-mode network that ssh comes in by, and its place on the hub of the second card.
_SSH_NET, _SSH_PORT = "magpie-ssh", "magpie-ssh-port"
#: VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
_QEMU_ARGUMENT = "{http://libvirt.org/schemas/domain/qemu/1.0}arg"
#: Seconds; it takes 0.05.
_MIGRATION_BUDGET = 30.0
#: What connects a VM's card with a network, and its port on the hub that the card hangs on (domain_xml).
_LINK, _LINK_PORT = "magpie-link", "magpie-link-port"
#: Seconds; it takes a few milliseconds.
_LINK_BUDGET = 5.0
#: Seconds for ending what must not outlive the engine.
_HELD_BUDGET = 3.0
#: prctl(2) and waitpid(2)
_PR_SET_CHILD_SUBREAPER, _WNOTHREAD = 36, 0x20000000


class SnapshotError(Exception):
    """Device state can't be saved or loaded."""


class Host:
    """One connection, its verbs, and the channel to the engine."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._exposing = threading.Lock()
        self._connection: Any = None
        #: Domains that end with the engine, and those of them whose start is not over.
        self._held: set[str] = set()
        self._starting: set[str] = set()
        self._leaving = False

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
            self._end_held()
            os._exit(0)

    def _end_held(self) -> None:
        """Destroy what must not outlive the engine, as far as that is possible within a few seconds."""
        self._leaving = True
        ends = [threading.Thread(target=self._end, args=(vm,), daemon=True) for vm in self._held.copy()]
        for end in ends:
            end.start()
        give_up = time.monotonic() + _HELD_BUDGET
        for end in ends:
            end.join(max(0.0, give_up - time.monotonic()))

    def _end(self, vm: str) -> None:
        while True:
            starts = vm in self._starting
            # Broad: libvirt's error has no name here, and the next engine finds what is left.
            with contextlib.suppress(Exception):
                self._connection.lookupByUUIDString(vm).destroy()
                return
            if not starts:
                return
            time.sleep(0.01)

    @contextlib.contextmanager
    def _holding(self, hold: str | None) -> Iterator[None]:
        """Hold a domain from before it is there: an engine can die in the middle of a start."""
        if hold is None:
            yield
            return
        self._starting.add(hold)
        self._held.add(hold)
        try:
            if self._leaving:
                raise SnapshotError("the engine has gone")
            yield
        except BaseException:
            self._held.discard(hold)
            raise
        finally:
            self._starting.discard(hold)

    def _receive(self, owner: int) -> bytes:
        sources: list[Any] = [self._channel, owner]
        ready, _, _ = select.select(sources, [], [])
        return b"" if owner in ready else self._channel.recv(1 << 16)

    def open(self, uri: str, held: Iterable[str] = ()) -> dict[str, object]:
        """Connect, and report changes from now on; `held` are domains that an earlier host held."""
        import libvirt

        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_pump, args=(libvirt,), daemon=True).start()
        self._connection = connection = libvirt.open(uri)
        connection.registerCloseCallback(lambda *_: self._send({"event": "closed"}), None)
        if "embed" not in uri:
            connection.setKeepAlive(*_KEEPALIVE)
        self._held.update(held)
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._changed, None)
        return {"libvirt": libvirt.getVersion(), "qemu": connection.getVersion()}

    def probe(self, emulator: str, architecture: str, machine: str, kind: str) -> None:
        """Have libvirt learn QEMU's capabilities (seconds, the first time) before a VM needs them."""
        self._connection.getDomainCapabilities(emulator, architecture, machine, kind)

    def create(self, xml: str, hold: str | None = None) -> list[float]:
        """Start a transient domain; return the seconds that took. That of id `hold` ends with the engine."""
        began = time.monotonic()
        with self._holding(hold):
            self._connection.createXML(xml, 0)
        return [time.monotonic() - began, 0.0, 0.0]

    def fork(self, xml: str, devices: str, hold: str | None = None) -> list[float]:
        """Start a domain that goes on where a snapshot stands; return the seconds: created, loaded, resumed.

        Where that fails, the domain is gone again.
        """
        import libvirt

        began = time.monotonic()
        with self._holding(hold):
            domain = self._connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
            created = time.monotonic()
            try:
                _load(domain, devices)
                loaded = time.monotonic()
                domain.resume()
            except BaseException as error:
                with contextlib.suppress(libvirt.libvirtError):
                    domain.destroy()
                # QEMU aborts at some damage, and all that libvirt then knows is that its monitor is silent.
                if isinstance(error, libvirt.libvirtError) and self._connection.isAlive() == 1:
                    raise SnapshotError(str(error)) from error
                raise
        return [created - began, loaded - created, time.monotonic() - loaded]

    def freeze(self, vm: str, devices: str) -> None:
        """Pause a domain for good, write its device state to a file that is there, and sync all that forks need."""
        domain = self._connection.lookupByUUIDString(vm)
        _pause(domain)
        _save(domain, devices)
        for path in _written_files(domain.XMLDesc(0)):
            _sync(path)

    def pause(self, vm: str) -> None:
        """Stop a domain's CPUs; a paused one stays so."""
        _pause(self._connection.lookupByUUIDString(vm))

    def resume(self, vm: str) -> None:
        """Let a paused domain go on, and outlive the engine from now on."""
        import libvirt

        domain = self._connection.lookupByUUIDString(vm)
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            if _monitor(domain, "query-status").get("status") in _FROZEN:
                raise SnapshotError("it is frozen, and going on would change the memory that its forks start from")
            domain.resume()
        self._held.discard(vm)

    def disks(self, vm: str) -> list[str]:
        """Return the names of a domain's disks (vda, vdb, …)."""
        import xml.etree.ElementTree as ET  # for this verb only

        root = ET.fromstring(self._connection.lookupByUUIDString(vm).XMLDesc(0))
        return [target.get("dev", "") for target in root.iterfind("devices/disk/target")]

    def plug(self, vm: str, xml: str) -> None:
        """Add a device to a running domain."""
        import libvirt

        self._connection.lookupByUUIDString(vm).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def linked(self, vm: str) -> str | None:
        """Return the socket that a domain's card is connected to; None where it is to nothing, or no more."""
        return _linked(self._connection.lookupByUUIDString(vm))

    def link(self, vm: str, path: str) -> None:
        """Connect a domain's card to the UNIX socket at `path`, in QEMU's stream format, and to nothing else."""
        domain = self._connection.lookupByUUIDString(vm)
        _unlink(domain)
        address = {"type": "unix", "path": path}
        _monitor(domain, "netdev_add", type="stream", id=_LINK, server=False, addr=address)
        _monitor(domain, "netdev_add", type="hubport", id=_LINK_PORT, hubid=0, netdev=_LINK)
        give_up = time.monotonic() + _LINK_BUDGET
        # QEMU connects in the background, and tells of a failure in this table only.
        while _linked(domain) != path:
            if time.monotonic() > give_up:
                _unlink(domain)
                raise SnapshotError(f"nothing answers at {path}")
            time.sleep(0.002)

    def unlink(self, vm: str) -> None:
        """Connect a domain's card to nothing; twice is as good as once."""
        _unlink(self._connection.lookupByUUIDString(vm))

    def expose(self, vm: str, net: str, guest: str, port: int) -> int:
        """Give a domain's second card a network in which QEMU passes a loopback port of the host on to `guest`:`port`.

        Asked again it returns the same port. The guest reaches nothing through it.
        """
        domain = self._connection.lookupByUUIDString(vm)
        with self._exposing:
            found = _forwarded(domain)
            if found is None:
                _add_ways(domain, net, guest, port)
                found = _forwarded(domain)
        if found is None:
            raise SnapshotError("QEMU forwards no port")
        return found

    def destroy(self, vm: str) -> None:
        """End a domain at once."""
        self._connection.lookupByUUIDString(vm).destroy()
        self._held.discard(vm)

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
        if isinstance(error, SnapshotError):
            return BAD_SNAPSHOT
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
    "fork": Host.fork,
    "freeze": Host.freeze,
    "pause": Host.pause,
    "resume": Host.resume,
    "disks": Host.disks,
    "plug": Host.plug,
    "linked": Host.linked,
    "link": Host.link,
    "unlink": Host.unlink,
    "expose": Host.expose,
    "destroy": Host.destroy,
    "look": Host.look,
    "list": Host.list,
}


def _load(domain: Any, path: str) -> None:
    """Load the device state of a snapshot into a domain that was started for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _monitor(domain, "migrate-set-capabilities", capabilities=_MEMORY_STAYS)
        _monitor(domain, "getfd", descriptor, fdname="state")
        _monitor(domain, "migrate-incoming", uri="fd:state")
        _await_migration(domain)
    finally:
        os.close(descriptor)


def _save(domain: Any, path: str) -> None:
    """Write a paused domain's device state; its memory is in its file already, and its disks are flushed by this."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _monitor(domain, "migrate-set-capabilities", capabilities=_MEMORY_STAYS)
        _monitor(domain, "getfd", descriptor, fdname="state")
        _monitor(domain, "migrate", uri="fd:state")
        _await_migration(domain)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written_files(xml: str) -> list[str]:
    """Return the files that hold a frozen domain's memory and its writable disks."""
    import xml.etree.ElementTree as ET  # for this verb only

    domain = ET.fromstring(xml)
    disks = [disk for disk in domain.iterfind("devices/disk") if disk.find("readonly") is None]
    paths = [source.get("file", "") for disk in disks for source in disk.iterfind("source")]
    values = [argument.get("value", "") for argument in domain.iter(_QEMU_ARGUMENT)]
    paths += [json.loads(value).get("mem-path", "") for value in values if value.startswith("{")]
    return [path for path in paths if path]


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _await_migration(domain: Any) -> None:
    give_up = time.monotonic() + _MIGRATION_BUDGET
    while (status := _monitor(domain, "query-migrate")).get("status") != "completed":
        if status.get("status") in ("failed", "cancelled") or time.monotonic() > give_up:
            raise SnapshotError(status.get("error-desc") or f"device state: {status.get('status')}")
        time.sleep(0.002)


def _monitor(domain: Any, command: str, descriptor: int | None = None, **arguments: object) -> dict[str, Any]:
    """Have QEMU carry out a monitor command.

    A file goes in as a descriptor: the sandbox that libvirt puts QEMU into kills it for a migration to `exec:`.
    """
    import libvirt_qemu

    text = json.dumps({"execute": command, "arguments": arguments})
    if descriptor is not None:
        libvirt_qemu.qemuMonitorCommandWithFiles(domain, text, [descriptor], 0)
        return {}
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, text, 0))
    if "error" in answer:
        raise SnapshotError(answer["error"].get("desc", "QEMU refused"))
    returned = answer.get("return")
    return returned if isinstance(returned, dict) else {}


def _linked(domain: Any) -> str | None:
    """Return the socket that a domain's card is connected to; None where nothing is, or it broke."""
    table = _monitor_text(domain, "info network")
    line = next((line for line in table.splitlines() if f"{_LINK}: " in line), "")
    _, unix, path = line.partition("unix:")
    return path.strip() if unix else None


def _unlink(domain: Any) -> None:
    for backend in (_LINK_PORT, _LINK):
        # QEMU refuses what is not there.
        with contextlib.suppress(SnapshotError):
            _monitor(domain, "netdev_del", id=backend)


def _monitor_text(domain: Any, command: str) -> str:
    """Return what a monitor command for people prints: QEMU has no other that tells of network backends."""
    import libvirt_qemu

    text: str = libvirt_qemu.qemuMonitorCommand(domain, command, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
    return text


def _add_ways(domain: Any, net: str, guest: str, port: int) -> None:
    """Connect the hub of a domain's second card with a user-mode network; what an earlier try left is made anew."""
    for name in (_SSH_PORT, _SSH_NET):
        with contextlib.suppress(SnapshotError):
            _monitor(domain, "netdev_del", id=name)
    prefix = net.rpartition(".")[0]
    # The kernel chooses the port, and nobody but this host can reach it; `restrict` keeps the guest from the host.
    user: dict[str, Any] = {
        "type": "user", "id": _SSH_NET, "restrict": True, "ipv6": False, "net": net, "host": f"{prefix}.2",
        "dhcpstart": f"{prefix}.20", "hostfwd": [{"str": f"tcp:127.0.0.1:0-{guest}:{port}"}],
    }  # fmt: skip
    _monitor(domain, "netdev_add", **user)
    _monitor(domain, "netdev_add", type="hubport", id=_SSH_PORT, hubid=1, netdev=_SSH_NET)


def _forwarded(domain: Any) -> int | None:
    """Return the host's port that QEMU forwards to the second card of a domain."""
    network = ""
    for line in _monitor_text(domain, "info usernet").splitlines():
        words = line.split()
        if words[:1] == ["Hub"]:
            network = words[-1].strip("():")
        # Protocol[state], descriptor, address, port, guest's address, guest's port, …
        if network == _SSH_NET and words[:1] == ["TCP[HOST_FORWARD]"] and words[2] == "127.0.0.1":
            return int(words[3])
    return None


def _pause(domain: Any) -> None:
    import libvirt

    if domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
        domain.suspend()


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
