"""The workspace: a disk of its own, found by its serial, that outlives the guest. All of this blocks."""

from __future__ import annotations

import errno
import os
import time

from magpie_local.guest.agent.background import Trouble, run_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

#: Seconds within which the kernel must have found the disk, which may have been plugged in just now.
FIND_PATIENCE = 10.0
#: Seconds for which what holds the file system may keep it.
RELEASE_PATIENCE = 5.0
#: Bytes that a disk must have beyond its file system to be worth a resize: less than this may not make a block group.
GROWTH = 8 * 1024 * 1024

_BLOCK_DEVICES = "/sys/block"
_LOOK = 0.01
_SECTOR = 512
#: mount(2), umount2(2)
_MS_NOSUID, _MS_NODEV, _MS_NOATIME, _MNT_DETACH = 2, 4, 1024, 2
#: e2fsck(8): 1 is corrected, 2 is corrected but reboot (nothing is mounted here); what is above could not be corrected.
_E2FSCK_FAILED = 4
#: ext4's superblock: its place on the disk, and in it the magic number, block size and number of blocks.
_SUPERBLOCK, _SUPERBLOCK_SIZE, _MAGIC = 1024, 1024, 0xEF53


class Workspace:
    """A disk with an ext4 file system, as long as it is mounted.

    Args:
        serial: what the disk is known by.
        path: where to mount it.
    """

    def __init__(self, serial: str, path: str) -> None:
        self._serial = serial
        self.path = path
        self._device = ""

    def mount(self, *, check: bool) -> dict[str, Any]:
        """Find, check, mount and grow it.

        Returns:
            fsck: the check's exit code, None where none was made; grown: whether it was made larger; took_us;
            note: what was repaired, or why it was not made larger; usually empty.

        Raises:
            Trouble: there is no such disk, no ext4 on it, or one that can't be repaired without a loss.
        """
        began = time.monotonic_ns()
        name = find(self._serial)
        self._device = f"/dev/{name}"
        size = file_system_size(self._device)
        code, note = _check(self._device) if check else (None, "")
        room = _disk_size(name) - size
        _mount(self._device, self.path)
        grown = False
        if room >= GROWTH:
            grown, note = _grow(self._device, note)
        took = (time.monotonic_ns() - began) // 1000
        return {"fsck": code, "grown": grown, "took_us": took, "note": note}

    def sync(self) -> None:
        """Have all that was written to it reach the disk.

        Raises:
            Trouble: not all of it did, now or earlier; no other call tells.
        """
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                error = _call("syncfs", folder)
            finally:
                os.close(folder)
        except OSError as caught:
            error = caught.errno or errno.EIO
        if error:
            raise Trouble(f"not all that was written to {self.path} is on its disk: {os.strerror(error)}")

    def release(self) -> Literal["clean", "busy"]:
        """Unmount it, when nothing but the kernel uses it any more.

        Returns:
            `busy` where something in the kernel holds it (a loop device, swap): all is on the disk, but the file
            system has not been closed. Its journal makes good for that.

        Raises:
            Trouble: it is unmounted, but not all that was written to it is on the disk.
        """
        try:
            self.sync()
        except Trouble:
            self._detach()
            raise
        return self._detach()

    def _detach(self) -> Literal["clean", "busy"]:
        give_up = time.monotonic() + RELEASE_PATIENCE
        try:
            number = os.stat(self._device).st_rdev
            while True:
                for place in mounts(f"{os.major(number)}:{os.minor(number)}", self.path):
                    _unmount(place, 0)
                if self._is_closed():
                    return "clean"
                if time.monotonic() > give_up:
                    break
                time.sleep(_LOOK / 2)
        except OSError:
            pass  # the disk was pulled, or can't be written to
        os.sync()
        _unmount(self.path, _MNT_DETACH)
        return "busy"

    def _is_closed(self) -> bool:
        """Return whether no file system is on the device any more; flush it then."""
        try:
            device = os.open(self._device, os.O_RDONLY | os.O_EXCL)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        try:
            os.fsync(device)
        finally:
            os.close(device)
        return True


def rehearse() -> None:
    """Do what a mount and a release do, to nothing: what an emulator has translated once runs faster."""
    for name in os.listdir(_BLOCK_DEVICES):
        _serial(name)
    mounts("", "/workspace")
    _call("mount", b"", b"", b"ext4", 0, b"")
    _unmount("", 0)


def find(serial: str) -> str:
    """Return the name of the disk with `serial` (`vdc`), as soon as the kernel has it.

    Raises:
        Trouble: it does not come.
    """
    give_up = time.monotonic() + FIND_PATIENCE
    others: set[str] = set()
    while True:
        for name in os.listdir(_BLOCK_DEVICES):
            if name in others or not name.startswith("vd"):
                continue
            # To ask a disk for its serial is a request to it: each is asked once.
            found = _serial(name)
            if found == serial:
                return name
            if found is not None:
                others.add(name)
        if time.monotonic() > give_up:
            raise Trouble(f"no disk has the serial {serial}")
        time.sleep(_LOOK)


def _serial(name: str) -> str | None:
    try:
        with open(f"{_BLOCK_DEVICES}/{name}/serial", "rb", buffering=0) as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return None  # it is coming, or going


def file_system_size(device: str) -> int:
    """Return the size of the ext4 file system on `device`, bytes.

    Raises:
        Trouble: it holds none.
    """
    try:
        file = os.open(device, os.O_RDONLY)
        try:
            block = os.pread(file, _SUPERBLOCK_SIZE, _SUPERBLOCK)
        finally:
            os.close(file)
    except OSError as error:
        raise Trouble(f"the disk {device} can't be read: {error}") from None
    if len(block) < _SUPERBLOCK_SIZE or _number(block, 0x38, 2) != _MAGIC:
        raise Trouble(f"the disk {device} holds no ext4 file system")
    blocks = _number(block, 0x04, 4) | _number(block, 0x150, 4) << 32
    return blocks << (10 + min(6, _number(block, 0x18, 4)))


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _disk_size(name: str) -> int:
    try:
        with open(f"{_BLOCK_DEVICES}/{name}/size", "rb", buffering=0) as file:
            return int(file.read()) * _SECTOR
    except OSError as error:
        raise Trouble(f"the disk {name} has gone: {error}") from None


def _check(device: str) -> tuple[int, str]:
    """Repair what can be repaired without a loss; never answer yes to what can't."""
    code, words = run_program(["/usr/sbin/e2fsck", "-p", device])
    if code < 0 or code >= _E2FSCK_FAILED:
        raise Trouble(f"e2fsck -p {device} ended with code {code}: {words}")
    return code, words if code else ""


def _mount(device: str, path: str) -> None:
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOATIME
    error = _call("mount", device.encode(), path.encode(), b"ext4", flags, b"discard")
    if error:
        raise Trouble(f"{device} can't be mounted at {path}: {os.strerror(error)}")


def _grow(device: str, note: str) -> tuple[bool, str]:
    """Enlarge a mounted file system to its disk; where that fails, it is as good as before."""
    try:
        code, words = run_program(["/usr/sbin/resize2fs", device])
    except Trouble as trouble:
        code, words = 1, str(trouble)
    return (True, note) if code == 0 else (False, f"{note} resize2fs: {words}".strip())


def _unmount(path: str, flags: int) -> None:
    """Try to; what stands in the way is found out otherwise."""
    _call("umount2", os.fsencode(path), flags)


def mounts(number: str, path: str, table: str = "/proc/self/mountinfo") -> list[str]:
    """Return the places at which the device `number` (`254:32`) is mounted, and all below `path`; innermost first."""
    found = []
    with open(table, "rb") as file:
        for line in file:
            fields = line.split()
            place = os.fsdecode(_unescaped(fields[4]))
            if fields[2].decode() == number or place == path or place.startswith(path + "/"):
                found.append(place)
    return found[::-1]


def _unescaped(field: bytes) -> bytes:
    """Undo the octal escapes of blanks and backslashes."""
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def _call(name: str, *arguments: object) -> int:
    """Call a function of the C library; return its error number, 0 where there was none."""
    import ctypes  # 0.07 s in an emulated guest, less than one program that mounts

    library = ctypes.CDLL(None, use_errno=True)
    return 0 if library[name](*arguments) == 0 else ctypes.get_errno()
