"""Unpacks what was uploaded. The tar program of the image does it: to import `tarfile` costs more than to run it."""

from __future__ import annotations

import os

from magpie_local.guest.agent.background import Trouble, run_program

#: As root and for root, with exactly the permissions that the host's files have; a folder that the guest has as a link
#: to one stays that.
_TAR = [
    "/usr/bin/tar", "-x", "-p", "--no-same-owner", "--keep-directory-symlink", "--warning=no-timestamp", "-f", "-",
]  # fmt: skip


def unpack(file: int, folder: str, *, anywhere: bool) -> None:
    """Unpack a tar file into `folder`. This blocks.

    Args:
        file: its descriptor.
        folder: where relative names begin.
        anywhere: absolute names are meant as such; otherwise they, too, begin in `folder`.

    Raises:
        Trouble: not all of it could be unpacked: there is no room, or something is in the way.
    """
    os.lseek(file, 0, os.SEEK_SET)
    code, words = run_program([*_TAR, "-C", folder, *(["-P"] if anywhere else [])], file)
    if code != 0:
        raise Trouble(f"the upload can't be unpacked: {words}")
