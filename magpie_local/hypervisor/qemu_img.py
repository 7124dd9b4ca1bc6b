"""Runs the host's disk tools. They get what they need as arguments, never through a shell."""

from __future__ import annotations

import asyncio
import os

from magpie_local.errors import HostDiskFull, HostError, HypervisorUnavailable

QEMU_IMG = "qemu-img"
#: mkfs and prlimit may lie where ordinary users do not look.
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_PACKAGES = {QEMU_IMG: "qemu-utils", "mkfs.ext4": "e2fsprogs", "prlimit": "util-linux"}


async def run(*command: str, fds: tuple[int, ...] = (), expect: tuple[int, ...] = (0,)) -> str:
    """Run a tool to its end and return what it wrote; a call that is cancelled kills it.

    Args:
        command: the tool and its arguments.
        fds: file descriptors that it inherits; it knows them as /dev/fd/N.
        expect: exit codes that are no failure.

    Raises:
        HypervisorUnavailable: there is no such tool.
        HostDiskFull, HostError: it failed; says why.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    # Each of qemu-img's threads would reserve an arena of its own, of 64 MiB, and soon reach a limit on memory.
    environment = {**os.environ, "LC_ALL": "C", "PATH": path, "MALLOC_ARENA_MAX": "2"}
    try:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, pass_fds=fds, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except (FileNotFoundError, PermissionError):  # the latter: part of PATH is closed to this user
        package = _PACKAGES.get(command[0], command[0])
        raise HypervisorUnavailable(f"{command[0]} is not installed.", hint=f"apt-get install {package}") from None
    try:
        wrote, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode in expect:
        return wrote.decode(errors="replace")
    raise _failure(command, process.returncode, said.decode(errors="replace").strip())


def _failure(command: tuple[str, ...], code: int | None, said: str) -> HostError | HostDiskFull:
    if "No space left" in said or "Disk quota exceeded" in said:
        return HostDiskFull(f"There is no room for a disk: {said}")
    what = f"{command[0]} {command[1]}" if command[0] == QEMU_IMG else command[0]
    return HostError(f"{what} failed: {said or f'it ended with code {code}'}", hint="")
