"""A libvirt for host processes: a domain is a file below $FAKE_LIBVIRT, and so is what is to go wrong.

domains/UUID    a running domain: its XML
opened          one line per connection: the process that opened it
hang            domains are looked at for ever
refuse          text of the error that opening raises
daemonize       a domain has a process, left to itself as libvirt leaves QEMU; its number is written into emulator
die             the process ends as soon as a domain is created
dead            the daemon has gone: every call fails, connections are not alive
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["FAKE_LIBVIRT"])
DOMAINS = FOLDER / "domains"

VIR_DOMAIN_METADATA_ELEMENT = 2
VIR_DOMAIN_RUNNING, VIR_DOMAIN_PAUSED, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_CRASHED = 1, 3, 5, 6
VIR_DOMAIN_PAUSED_IOERROR, VIR_DOMAIN_PAUSED_CRASHED, VIR_DOMAIN_PAUSED_STARTING_UP = 5, 10, 11
VIR_DOMAIN_EVENT_ID_LIFECYCLE = 0
VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_RESUMED = 2, 3, 4
VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR = 5, 8, 2


class libvirtError(Exception):  # libvirt's own name
    def __init__(self, code: int, message: str) -> None:
        self._code = code
        super().__init__(message)

    def get_error_code(self) -> int:
        return self._code


class Domain:
    def __init__(self, connection: Connection, uuid: str) -> None:
        self._connection = connection
        self._uuid = uuid

    def UUIDString(self) -> str:
        return self._uuid

    def metadata(self, _kind: int, namespace: str, _flags: int) -> str:
        mark = self._xml().find(f"metadata/{{{namespace}}}vm")
        if mark is None:
            raise libvirtError(80, "no metadata")
        return ET.tostring(mark, encoding="unicode")

    def state(self) -> tuple[int, int]:
        special = {"paused": (3, 1), "ioerror": (3, 5), "starting": (3, 11), "crashed": (6, 1), "shutoff": (5, 1)}
        return special.get(self._xml().findtext("state", ""), (VIR_DOMAIN_RUNNING, 1))

    def destroy(self) -> None:
        (DOMAINS / self._uuid).unlink()
        self._connection.tell(self, VIR_DOMAIN_EVENT_STOPPED)

    def _xml(self) -> ET.Element:
        try:
            return ET.fromstring((DOMAINS / self._uuid).read_text())
        except FileNotFoundError:
            raise libvirtError(42, f"Domain not found: {self._uuid}") from None


class Connection:
    def __init__(self) -> None:
        self._callbacks: list[Any] = []

    def tell(self, domain: Domain, event: int) -> None:
        for callback in self._callbacks:
            callback(self, domain, event, 0, None)

    def registerCloseCallback(self, callback: Any, _opaque: object) -> None:
        def wait() -> None:
            while not (FOLDER / "dead").exists():
                time.sleep(0.01)
            callback(self, 0, None)

        threading.Thread(target=wait, daemon=True).start()

    def setKeepAlive(self, _interval: int, _count: int) -> None:
        pass

    def domainEventRegisterAny(self, _domain: None, _event: int, callback: Any, _opaque: object) -> None:
        self._callbacks.append(callback)

    def getVersion(self) -> int:
        return 7_002_022

    def isAlive(self) -> int:
        return 0 if (FOLDER / "dead").exists() else 1

    def getDomainCapabilities(self, *_arguments: str) -> str:
        return "<domainCapabilities/>"

    def createXML(self, xml: str, _flags: int) -> Domain:
        if (FOLDER / "die").exists():
            os._exit(1)
        uuid = ET.fromstring(xml).findtext("uuid", "")
        if (DOMAINS / uuid).exists():
            raise libvirtError(9, f"operation failed: domain already exists with uuid {uuid}")
        (DOMAINS / uuid).write_text(xml)
        if (FOLDER / "daemonize").exists():
            command = ["sh", "-c", "sleep 20 >/dev/null & echo $!"]
            started = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            (FOLDER / "emulator").write_text(started.stdout)
        domain = Domain(self, uuid)
        self.tell(domain, VIR_DOMAIN_EVENT_STARTED)
        return domain

    def lookupByUUIDString(self, uuid: str) -> Domain:
        self._alive()
        while (FOLDER / "hang").exists():
            time.sleep(0.01)
        domain = Domain(self, uuid)
        domain.state()
        return domain

    def listAllDomains(self) -> list[Domain]:
        self._alive()
        return [Domain(self, path.name) for path in sorted(DOMAINS.iterdir())]

    def _alive(self) -> None:
        if not self.isAlive():
            raise libvirtError(38, "Cannot write data: Broken pipe")


def open(_uri: str) -> Connection:
    DOMAINS.mkdir(exist_ok=True)
    with (FOLDER / "opened").open("a") as file:
        file.write(f"{os.getpid()}\n")
    refuse = FOLDER / "refuse"
    if refuse.exists():
        raise libvirtError(38, refuse.read_text())
    return Connection()


def getVersion() -> int:
    return 9_000_000


def registerErrorHandler(_handler: Any, _opaque: object) -> None:
    pass


def virEventRegisterDefaultImpl() -> None:
    pass


def virEventRunDefaultImpl() -> None:
    time.sleep(0.05)
