"""The host's end of the channel, and a verb for each thing that can be asked."""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from magpie_local.hypervisor.host import BAD_SNAPSHOT, BROKEN, CLOSED, NO_LIBVIRT, sights, sleeping, ways
from magpie_local.hypervisor.host.held import Held
from magpie_local.hypervisor.host.monitor import SnapshotError, monitor
from magpie_local.hypervisor.host.snapshots import is_shared, load, save, sync, written_files

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

#: A remote daemon that is silent for interval x count seconds counts as dead (F47).
_KEEPALIVE = (5, 4)
#: A destroy may hold one for seconds, and looks must not wait behind it.
_WORKERS = 16
#: What QEMU calls itself once its state has been saved.
_FROZEN = ("postmigrate", "finish-migrate")


class Host:
    """One connection, its verbs, and the channel to the engine."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._exposing = threading.Lock()
        self._connection: Any = None
        self._held = Held()

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
            self._held.end(self._connection)
            os._exit(0)

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
        with self._held.starting(hold):
            self._connection.createXML(xml, 0)
        return [time.monotonic() - began, 0.0, 0.0]

    def fork(self, xml: str, devices: str, hold: str | None = None) -> list[float]:
        """Start a domain that goes on where a snapshot stands; return the seconds: created, loaded, resumed.

        Where that fails, the domain is gone again.
        """
        import libvirt

        began = time.monotonic()
        with self._held.starting(hold):
            domain = self._connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
            created = time.monotonic()
            try:
                load(domain, devices)
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
        save(domain, devices)
        for path in written_files(domain.XMLDesc(0)):
            sync(path)

    def pause(self, vm: str) -> None:
        """Stop a domain's CPUs; a paused one stays so."""
        _pause(self._connection.lookupByUUIDString(vm))

    def resume(self, vm: str) -> None:
        """Let a paused domain go on, and outlive the engine from now on."""
        import libvirt

        domain = self._connection.lookupByUUIDString(vm)
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            if monitor(domain, "query-status").get("status") in _FROZEN and is_shared(domain):
                raise SnapshotError("it is frozen, and going on would change the memory that its forks start from")
            _let_go_on(domain)
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
        return ways.linked(self._connection.lookupByUUIDString(vm))

    def link(self, vm: str, path: str) -> None:
        """Connect a domain's card to the UNIX socket at `path`, in QEMU's stream format, and to nothing else."""
        ways.link(self._connection.lookupByUUIDString(vm), path)

    def unlink(self, vm: str) -> None:
        """Connect a domain's card to nothing; twice is as good as once."""
        ways.unlink(self._connection.lookupByUUIDString(vm))

    def expose(self, vm: str, net: str, guest: str, port: int, wish: int = 0) -> int:
        """Give a domain's second card a network in which QEMU passes a loopback port of the host on to `guest`:`port`.

        Asked again it returns the same port. The guest reaches nothing through it.
        """
        with self._exposing:
            return ways.expose(self._connection.lookupByUUIDString(vm), net, guest, port, wish)

    def hide(self, vm: str) -> None:
        """Take that network away; twice is as good as once."""
        with self._exposing:
            ways.hide(self._connection.lookupByUUIDString(vm))

    def visitors(self, vm: str) -> int:
        """Return how many connections there are through that port."""
        return ways.visitors(self._connection.lookupByUUIDString(vm))

    def save(self, vm: str, path: str) -> int:
        """Pause a domain and write all of its state to a file that is there; return the file's size."""
        domain = self._connection.lookupByUUIDString(vm)
        _pause(domain)
        return sleeping.save(domain, path)

    def load(self, path: str) -> list[float]:
        """Start a domain, paused, where a file says that it stood; return the seconds. Where it fails, it is gone."""
        began = time.monotonic()
        sleeping.load(self._connection, path)
        return [0.0, time.monotonic() - began, 0.0]

    def destroy(self, vm: str) -> None:
        """End a domain at once."""
        self._connection.lookupByUUIDString(vm).destroy()
        self._held.discard(vm)

    def look(self, vm: str) -> dict[str, object]:
        """Return one domain's condition and metadata."""
        return sights.seen(self._connection.lookupByUUIDString(vm))

    def list(self) -> list[dict[str, object]]:
        """Return every domain that carries our metadata, of whatever state directory."""
        import libvirt

        found = []
        for domain in self._connection.listAllDomains():
            # A domain can vanish between list and look (F51).
            with contextlib.suppress(libvirt.libvirtError):
                found.append(sights.seen(domain))
        return [one for one in found if one["metadata"] is not None]

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
        condition = sights.condition_after(event, detail)
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
    "hide": Host.hide,
    "visitors": Host.visitors,
    "save": Host.save,
    "load": Host.load,
    "destroy": Host.destroy,
    "look": Host.look,
    "list": Host.list,
}


def _let_go_on(domain: Any) -> None:
    # The end of a save that is still under way would stop it again.
    if monitor(domain, "query-migrate").get("status") in ("setup", "active"):
        monitor(domain, "migrate_cancel")
    domain.resume()


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
