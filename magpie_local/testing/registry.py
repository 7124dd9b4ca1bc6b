"""The fake hypervisor's registry: a record and a lock per VM, as files in one folder.

A VM lives exactly as long as its lock is held. The lock belongs to an open file description that the starter hands
down to the VM's process; so there is no moment between, whoever is killed when.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from magpie_local.testing.processes import start_time

#: struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")
_WHOLE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one fake VM."""

    id: str
    state_id: str
    attempt_id: str
    control: str
    log: str
    console: str
    boot_delay: float
    never_ready: bool
    #: The VM's process: number and start time; None until it has registered.
    pid: int | None = None
    started: int | None = None
    #: What is shown of it while it is stopped.
    shown: str = "paused"
    #: It ends with the process that started it.
    held: bool = False
    #: The file that stands for its memory, and whether others start from there, so that it must not go on.
    ram: str | None = None
    frozen: bool = False
    #: The file that receives its outputs.
    outputs: str | None = None
    #: Disks added while it ran.
    plugged: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The script's working directory."""
        return Path(self.log + ".home")

    def is_alive(self) -> bool:
        """Return whether its process is there, and not another one of that number (F18)."""
        return self.pid is not None and start_time(self.pid) == self.started


class Registry:
    """The records and locks in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lock(self, vm_id: str) -> int | None:
        """Return a descriptor that holds the VM's lock, or None where somebody else holds it."""
        while True:
            path = self._folder / f"{vm_id}.lock"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE)
                if path.stat().st_ino == os.fstat(fd).st_ino:
                    return fd
            except BlockingIOError:
                os.close(fd)
                return None
            except FileNotFoundError:
                pass  # removed since it was opened: what is locked now is nothing
            os.close(fd)

    def is_held(self, vm_id: str) -> bool:
        """Return whether somebody holds the VM's lock, without ever taking it."""
        try:
            fd = os.open(self._folder / f"{vm_id}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return bool(_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE))[0] != fcntl.F_UNLCK)
        finally:
            os.close(fd)

    def ids(self) -> list[str]:
        """Return the VMs with a record, dead or alive."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def read(self, vm_id: str) -> Record | None:
        """Return a VM's record."""
        try:
            known = json.loads((self._folder / f"{vm_id}.json").read_bytes())
            return Record(**known | {"plugged": tuple(known["plugged"])})
        except FileNotFoundError:
            return None

    def write(self, record: Record) -> None:
        """Write a VM's record, whole or not at all."""
        new = self._folder / f"{record.id}.{os.getpid()}.new"
        new.write_text(json.dumps(asdict(record)))
        new.chmod(0o600)
        new.rename(self._folder / f"{record.id}.json")

    def disks(self, vm_id: str) -> Path:
        """Return the folder of links to the VM's disks, by their serials."""
        return self._folder / f"{vm_id}.disks"

    def attach(self, vm_id: str, serial: str, disk: Path) -> None:
        """Have a VM's guest find a disk by its serial; one without is not shown to it."""
        if serial:
            self.disks(vm_id).mkdir(mode=0o700, exist_ok=True)
            (self.disks(vm_id) / serial).symlink_to(disk.absolute())

    def remove(self, record: Record) -> None:
        """Remove all traces of a VM but its log and console; call it only while holding its lock."""
        shutil.rmtree(record.home, ignore_errors=True)
        shutil.rmtree(self.disks(record.id), ignore_errors=True)
        for path in (record.log + ".script", record.control):
            Path(path).unlink(missing_ok=True)
        for suffix in ("json", "lock"):
            (self._folder / f"{record.id}.{suffix}").unlink(missing_ok=True)
