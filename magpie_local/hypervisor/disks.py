"""Disk images through qemu-img. Formats are always named, and no name is taken for an option or a URL (F83, F84)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.sizes import GIB
from magpie_local.domain.workspace import MAX_SIZE_GB
from magpie_local.errors import HostDiskFull, HostError, InvalidInput, WorkspaceDamaged
from magpie_local.hypervisor import qcow2
from magpie_local.hypervisor.files import claim
from magpie_local.hypervisor.qemu_img import QEMU_IMG, run
from magpie_local.ports.hypervisor import DiskFacts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from magpie_local.domain.vm import Disk

TOOL = QEMU_IMG

#: ext4 as little as it can be: tables that the guest fills in when it has time, and no blocks kept for root.
_MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-L", "magpie", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
#: A name that neither qemu-img nor libvirt could take for anything but a file's.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
#: Where ext4 keeps its magic number, and that.
_EXT4_AT, _EXT4 = 1080, b"\x53\xef"
#: What reading a stranger's file may take: memory, and CPU seconds, more for each GiB that it really has.
_HOSTILE_MEMORY, _HOSTILE_CPU, _HOSTILE_CPU_PER_GIB = GIB, 60, 5
#: Of each of qemu-img's threads, of which there may be 64: the usual 8 MiB would use up most of that memory.
_STACK = 1024**2
#: In what qemu-img says of a disk that may be fine.
_NOT_THE_DISK = ("lock", "Permission denied", "Cannot allocate memory", "is not installed", "No such file")
#: Space on the host that an import leaves free.
_FLOOR = GIB


class QemuDisks:
    """The Disks port."""

    async def overlay(self, path: Path, base: Disk, *, size_gb: int | None = None, beside: bool = False) -> None:
        """Create a qcow2 at `path` (0600) whose content is `base` until written.

        Raises:
            HostDiskFull, HostError, HypervisorUnavailable (no qemu-img).
        """
        # qemu-img reads `json:...` and `nbd://...` as such, but never what begins with a slash.
        backing = base.path.name if beside else str(Path.cwd() / base.path)
        if beside and not _PLAIN.fullmatch(backing):
            raise HostError(f"{backing!r} can't be the name of a disk.", hint="")
        await asyncio.to_thread(claim, path)
        size = () if size_gb is None else (f"{size_gb}G",)
        await _qemu_img("create", "-q", "-f", "qcow2", "-F", base.format, "-b", backing, "--", _absolute(path), *size)
        if beside:
            await asyncio.to_thread(_sync, path)

    async def blank(self, path: Path, size_gb: int) -> None:
        """Create a qcow2 at `path` (0600) with an empty ext4, synced.

        The file system is made in memory: of it only what mkfs writes is ever there, and a crash leaves nothing.

        Raises:
            HostDiskFull, HostError, HypervisorUnavailable (no qemu-img or mkfs.ext4).
        """
        await asyncio.to_thread(claim, path)
        with os.fdopen(os.memfd_create("magpie-blank", os.MFD_CLOEXEC), "wb") as raw:
            os.ftruncate(raw.fileno(), size_gb * GIB)
            source, fds = f"/dev/fd/{raw.fileno()}", (raw.fileno(),)
            await run(*_MKFS, source, fds=fds)
            await _qemu_img("convert", "-q", "-f", "raw", "-O", "qcow2", "--", source, _absolute(path), fds=fds)
        await asyncio.to_thread(_sync, path)

    async def resize(self, path: Path, size_gb: int) -> None:
        """Grow a disk, synced; one that has the size already is fine.

        Raises:
            HostDiskFull, HostError (it would shrink), WorkspaceDamaged, HypervisorUnavailable.
        """
        if (await asyncio.to_thread(_header, path)).size == size_gb * GIB:
            return
        await _qemu_img("resize", "-q", "-f", "qcow2", "--", _absolute(path), f"{size_gb}G")
        await asyncio.to_thread(_sync, path)

    async def export(self, head: Path, target: Path, *, compress: bool = False) -> None:
        """Write all that a disk holds to one new file (0600) that needs no other, synced.

        Raises:
            InvalidInput: there is something at `target`.
            HostDiskFull, HostError, HypervisorUnavailable.
        """
        part = target.with_name(f".magpie-{secrets.token_hex(8)}.part")
        # Not in a thread: it would go on when this is cancelled, and leave the file.
        claim(part)
        try:
            packed = ("-c",) if compress else ()
            names = (_absolute(head), _absolute(part))
            await _qemu_img("convert", "-q", "-f", "qcow2", "-O", "qcow2", *packed, "--", *names)
            await asyncio.to_thread(_publish, part, target)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def import_(self, source: Path, target: Path) -> int:
        """Copy a stranger's qcow2 file (F83) to `target` (0600), synced; return its size in GiB, rounded up.

        Raises:
            InvalidInput: it is none, is not self-contained, or has no ext4.
            HostDiskFull, HostError, HypervisorUnavailable (no qemu-img or prlimit).
        """
        with ExitStack() as stack:
            file = stack.enter_context(await asyncio.to_thread(_open_strange, source))
            header = await asyncio.to_thread(_check_strange, source, file)
            limits = _limits(file, header, shutil.disk_usage(target.parent).free)
            await asyncio.to_thread(claim, target)
            # By descriptor: what was checked is what is read, whatever its name leads to by then.
            await _copy_strange(source, f"/dev/fd/{file.fileno()}", _absolute(target), limits, file.fileno())
        size_gb = -(-header.size // GIB)
        await self.resize(target, size_gb)
        await asyncio.to_thread(_check_ext4, source, target)
        await asyncio.to_thread(_sync, target)
        return size_gb

    async def inspect(self, chain: Sequence[Path]) -> DiskFacts:
        """Return what a disk's tables say. `chain` is the disk and the files below it; no other file is opened.

        Raises:
            WorkspaceDamaged: one of them is missing, empty, cut off, foreign, or lies on another file than it should.
            HostError: one can't be read.
        """
        return await asyncio.to_thread(_inspect, chain)

    async def check(self, path: Path) -> int:
        """Have qemu-img look at all tables of a disk, and mend leaks (F75); return how many there were.

        Raises:
            WorkspaceDamaged: it is corrupt; nothing was changed then but leaks.
            HostError, HypervisorUnavailable.
        """
        # First only looking: where more than leaks is wrong, nothing must be written.
        found = await _counts(path)
        if found.get("corruptions") or found.get("check-errors"):
            raise WorkspaceDamaged(f"{path} is corrupt: qemu-img counts {found.get('corruptions', 0)} errors.")
        leaks = int(found.get("leaks", 0))
        if leaks:
            await _qemu_img("check", "-q", "-f", "qcow2", "-r", "leaks", "--", _absolute(path))
        return leaks


async def _counts(path: Path) -> dict[str, int]:
    """Return what qemu-img finds wrong in a disk, by kind.

    Raises:
        WorkspaceDamaged: it can't make sense of it.
        HostError: it can't get at it.
    """
    check = ("check", "-f", "qcow2", "--output=json", "--", _absolute(path))
    try:
        # 2: corrupt; 3: leaks and nothing else.
        found: dict[str, int] = json.loads(await _qemu_img(*check, expect=(0, 2, 3)))
    except HostError as error:
        if any(cause in error.message for cause in _NOT_THE_DISK):
            raise
        raise WorkspaceDamaged(f"{path} is corrupt: {error.message}") from None
    return found


async def _qemu_img(
    *arguments: str, fds: tuple[int, ...] = (), expect: tuple[int, ...] = (0,)
) -> str:  # fmt: skip
    return await run(QEMU_IMG, *arguments, fds=fds, expect=expect)


def _absolute(path: Path) -> str:
    return str(Path.cwd() / path)


def _sync(path: Path) -> None:
    """Have the kernel write a file and its name to their disk."""
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _publish(part: Path, target: Path) -> None:
    """Give a whole file its name, unless that is taken."""
    _sync(part)
    try:
        os.link(part, target)
    except FileExistsError:
        raise InvalidInput("path", str(target), "there is something already; nothing is overwritten") from None
    _sync(target)


def _open(path: Path) -> BinaryIO:
    """Open a disk of ours to read.

    Raises:
        WorkspaceDamaged: there is none.
        HostError: it can't be read.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except FileNotFoundError:
        raise WorkspaceDamaged(f"{path} is missing.") from None
    except IsADirectoryError:
        raise WorkspaceDamaged(f"{path} is a folder.") from None
    except OSError as error:
        raise HostError(f"Can't read {path}: {error.strerror}.", hint="") from None


def _header(path: Path) -> qcow2.Header:
    with _open(path) as file:
        try:
            return qcow2.read_header(file, MAX_SIZE_GB * GIB)
        except qcow2.BadDiskError as error:
            raise WorkspaceDamaged(f"{path} {error}.") from None


def _inspect(chain: Sequence[Path]) -> DiskFacts:
    facts = None
    for path, below in zip(chain, [*chain[1:], None], strict=True):
        with _open(path) as file:
            try:
                header = qcow2.read_header(file, MAX_SIZE_GB * GIB)
                qcow2.check_ours(file, header)
                _check_below(header, below)
                # Whether anything was written matters of the topmost one only.
                facts = facts or DiskFacts(size_gb=header.size // GIB, untouched=not any(qcow2.l1_table(file, header)))
            except qcow2.BadDiskError as error:
                raise WorkspaceDamaged(f"{path} {error}.") from None
    if facts is None:
        raise WorkspaceDamaged("The workspace has no disk.")
    return facts


def _check_below(header: qcow2.Header, below: Path | None) -> None:
    named = header.backing
    if named != (below.name if below else None) or (named and header.backing_format != "qcow2"):
        raise qcow2.BadDiskError(f"lies on {named or 'nothing'}, and should on {below.name if below else 'nothing'}")


def _open_strange(source: Path) -> BinaryIO:
    try:
        # Not to wait for ever on a pipe.
        file = os.fdopen(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise InvalidInput("path", str(source), f"it can't be read: {error.strerror}") from None
    return file


def _check_strange(source: Path, file: BinaryIO) -> qcow2.Header:
    """Return the header of a file that stands for itself.

    Raises:
        InvalidInput: it does not, or is no such file.
    """
    if not Path(f"/proc/self/fd/{file.fileno()}").is_file():
        raise InvalidInput("path", str(source), "it is no regular file")
    try:
        header = qcow2.read_header(file, MAX_SIZE_GB * GIB)
    except qcow2.BadDiskError as error:
        raise InvalidInput("path", str(source), f"it {error}") from None
    if header.backing is not None or header.incompatible & qcow2.DATA_FILE:
        raise InvalidInput("path", str(source), "its contents lie in other files; `qemu-img convert` makes one of all")
    if header.encryption:
        raise InvalidInput("path", str(source), "it is encrypted")
    if header.incompatible & qcow2.CORRUPT:
        raise InvalidInput("path", str(source), "it is marked as corrupt by QEMU")
    return header


def _limits(file: BinaryIO, header: qcow2.Header, free: int) -> tuple[str, ...]:
    """Return the prlimit command for reading a stranger's file."""
    taken = os.fstat(file.fileno()).st_blocks * 512
    cpu = _HOSTILE_CPU + _HOSTILE_CPU_PER_GIB * (taken // GIB)
    # A small file can unpack to its whole virtual size; tables take less than a hundredth of it.
    most = max(min(header.size + header.size // 64 + GIB, free - _FLOOR), 0)
    return ("prlimit", f"--cpu={cpu}", f"--as={_HOSTILE_MEMORY}", f"--stack={_STACK}", f"--fsize={most}", "--core=0",
            "--")  # fmt: skip


async def _copy_strange(source: Path, read: str, target: str, limits: tuple[str, ...], fd: int) -> None:
    convert = (QEMU_IMG, "convert", "-q", "-f", "qcow2", "-O", "qcow2", "--", read, target)
    try:
        await run(*limits, *convert, fds=(fd,))
    except HostDiskFull:
        raise
    except HostError as error:
        if "File too large" in error.message or "signal 25" in error.message:
            raise HostDiskFull(f"There is no room for what {source} holds.") from None
        if "Resource temporarily unavailable" in error.message:
            raise
        raise InvalidInput("path", str(source), f"it can't be copied: {error.message}") from None


def _check_ext4(source: Path, target: Path) -> None:
    with _open(target) as file:
        header = qcow2.read_header(file, MAX_SIZE_GB * GIB)
        if qcow2.read_start(file, header, _EXT4_AT, len(_EXT4)) != _EXT4:
            raise InvalidInput("path", str(source), "it holds no ext4 file system; partitions are not looked into")
