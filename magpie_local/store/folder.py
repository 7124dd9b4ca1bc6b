"""The state directory as a folder: made private, and refused where others could meddle or locks would not hold."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from magpie_local.errors import StateUnavailable

#: File systems of several hosts or behind a translation: SQLite's locks are not dependable there (F24).
NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "prl_fs", "smb3", "smbfs", "vboxsf", "vmhgfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.ceph", "fuse.davfs2", "fuse.vmhgfs-fuse",
})  # fmt: skip

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


def prepare(folder: Path) -> None:
    """Make the state directory where it is missing (0700 whatever the umask, F25), and check it.

    Raises:
        StateUnavailable: it is somebody else's, others may write to it, or it lies on a network file system.
        OSError: it can't be made.
    """
    make_private(folder)
    check(folder)


def check(folder: Path) -> None:
    """Raise StateUnavailable where the folder is not safe to keep state in."""
    facts = folder.stat()
    if not stat.S_ISDIR(facts.st_mode):
        raise StateUnavailable(f"{folder} is no folder.")
    if facts.st_uid != os.geteuid():
        raise StateUnavailable(
            f"{folder} belongs to user {facts.st_uid}, and this process runs as user {os.geteuid()}.",
            hint="Run as its owner, or choose another folder with MAGPIE_HOME.",
        )
    # A folder that was there before keeps its mode: it may be more than ours. What we put in it is private.
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateUnavailable(f"Other users may write to {folder}.", hint=f"Run: chmod 700 {folder}")
    kind = file_system(folder.resolve(), mounts())
    if kind in NETWORK_FILE_SYSTEMS:
        raise StateUnavailable(
            f"{folder} lies on {kind}, where a database's locks don't hold.",
            hint="Choose a folder on a local disk with MAGPIE_HOME.",
        )


def make_private(folder: Path) -> None:
    """Make a folder and its missing parents, all 0700."""
    if folder.exists():
        return
    make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)  # the umask may have taken bits of our own


def is_writable(folder: Path) -> bool:
    """Return whether this process may write there; False for root too on a read-only mount."""
    return os.access(folder, os.W_OK)


def mounts() -> str:
    """Return the kernel's list of mounts; empty where there is none."""
    try:
        return _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return ""


def file_system(path: Path, mountinfo: str) -> str | None:
    """Return the type of the file system that `path` (resolved) lies on; None where the list does not tell.

    os.statvfs has no type, so the type comes from proc(5) mountinfo: the longest mount point above the path, and of
    several mounted there the last.
    """
    best, kind = -1, None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields.split(" ")[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split(" ")[0]
    return kind
