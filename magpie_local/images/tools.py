"""Run the host's tools for a build, and say what is missing in the words of the package manager."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from typing import TYPE_CHECKING

from magpie_local.errors import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Each tool that a build calls, and the Debian package it comes in.
PACKAGES: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "mkfs.erofs": "erofs-utils",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
#: Ordinary users often have no sbin folder in their PATH; mkfs lies there.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TAIL_LINES = 20
_PATIENCE = 10.0


def find(tool: str) -> str | None:
    """Return a tool's path, or None where it is not installed."""
    return shutil.which(tool, path=SEARCH_PATH)


def install_command(*packages: str) -> str:
    """Return the command that installs packages."""
    return f"sudo apt-get install --no-install-recommends {' '.join(sorted(packages))}"


async def run(
    step: str,
    *argv: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    keep_open: tuple[int, ...] = (),
    hint: str = "",
) -> None:
    """Run a tool to its end; its output goes into the error, if there is one.

    Args:
        step: what the build is doing, for the error.
        keep_open: file descriptors that the tool and its children inherit.
        hint: what to look at when it fails.

    Raises:
        ImageBuildFailed: the tool is missing, or ended with another code than 0.
    """
    process = await asyncio.create_subprocess_exec(
        _path(step, argv[0]), *argv[1:], cwd=cwd, env=env, pass_fds=keep_open, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        tail = await _tail(process)
    except asyncio.CancelledError:
        await _end(process)
        raise
    if process.returncode:
        text = "\n".join(f"    {line}" for line in tail)
        raise ImageBuildFailed(
            f"{step}: {argv[0]} ended with code {process.returncode}; its last lines:\n{text}", hint=hint
        )


async def output(step: str, *argv: str, cwd: Path) -> bytes:
    """Run a tool that ends at once, and return what it writes.

    Raises:
        ImageBuildFailed: the tool is missing, or ended with another code than 0.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(_path(step, argv[0]), *argv[1:], cwd=cwd, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    if process.returncode:
        raise ImageBuildFailed(
            f"{step}: {argv[0]} ended with code {process.returncode}: {err.decode(errors='replace')}"
        )
    return out


def _path(step: str, tool: str) -> str:
    path = find(tool)
    if path is None:
        raise ImageBuildFailed(f"{step}: {tool} is not installed", hint=install_command(PACKAGES.get(tool, tool)))
    return path


async def _tail(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    lines: deque[str] = deque(maxlen=_TAIL_LINES)
    rest = b""
    # Read in chunks: progress bars make "lines" longer than readline() takes.
    while chunk := await process.stdout.read(65536):
        *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        lines.extend(line.decode(errors="replace") for line in whole if line.strip())
        rest = rest[-4096:]
    if rest.strip():
        lines.append(rest.decode(errors="replace"))
    await process.wait()
    return list(lines)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Terminate a tool, so that it can remove what it has made; kill it when it takes too long."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(_tail(process)), _PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
