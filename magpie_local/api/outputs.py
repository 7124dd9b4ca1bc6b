"""Files that were collected of a job, and what one can do with them."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.ids import parse_job_id
from magpie_local.errors import GuestFileNotFound, InvalidInput, JobNotFound

if TYPE_CHECKING:
    import builtins

    from magpie_local.api.runtime import Runtime
    from magpie_local.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One file that was collected."""

    #: Relative to the folder of all of them.
    path: str
    #: Bytes.
    size: int
    #: The permission bits (0o644).
    mode: int

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"path": self.path, "size": self.size, "mode": self.mode}


class OutputService:
    """The verbs.

    Args:
        engine: the engine of this process.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, job_id: str) -> list[OutputFile]:
        """Return the files, by path."""
        return await asyncio.to_thread(_files, await self._folder(job_id))

    async def read(self, job_id: str, path: str) -> bytes:
        """Return one file's content."""
        found = {one.path for one in await self.list(job_id)}
        if path not in found:
            raise GuestFileNotFound(f"Job {job_id} has no output {path!r}.")
        return await asyncio.to_thread((await self._folder(job_id)).joinpath(path).read_bytes)

    async def download(self, job_id: str, destination: str | Path) -> builtins.list[OutputFile]:
        """Copy all files to a folder, which is made; nothing that is there is overwritten."""
        target = Path(destination)
        folder = await self._folder(job_id)
        files = await asyncio.to_thread(_files, folder)
        await asyncio.to_thread(_copy, folder, target, files)
        return files

    async def _folder(self, job_id: str) -> Path:
        parsed = parse_job_id(job_id)
        if await self._engine.ports.jobs.get(parsed) is None:
            raise JobNotFound(f"There is no job {parsed}.")
        return self._engine.ports.layout.collected(parsed)


class JobOutputs:
    """The files that were collected of a job (`outputs=` on create), when its script had ended."""

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        self._runtime = runtime
        self._id = job_id

    def list(self) -> builtins.list[OutputFile]:
        """Return the files, by path; none before the script's end."""
        return self._runtime.call(self._runtime.outputs.list(self._id))

    def read(self, path: str) -> bytes:
        """Return one file's content.

        Raises:
            GuestFileNotFound: there is none of that path.
        """
        return self._runtime.call(self._runtime.outputs.read(self._id, path))

    def download(self, destination: str | Path) -> builtins.list[OutputFile]:
        """Copy all files to a folder, which is made; nothing that is there is overwritten.

        Raises:
            InvalidInput: something is in the way.
        """
        return self._runtime.call(self._runtime.outputs.download(self._id, destination))


class AsyncJobOutputs:
    """The same as `JobOutputs`, awaited."""

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        self._runtime = runtime
        self._id = job_id

    async def list(self) -> builtins.list[OutputFile]:
        """Return the files, by path."""
        return await self._runtime.await_call(self._runtime.outputs.list(self._id))

    async def read(self, path: str) -> bytes:
        """Return one file's content."""
        return await self._runtime.await_call(self._runtime.outputs.read(self._id, path))

    async def download(self, destination: str | Path) -> builtins.list[OutputFile]:
        """Copy all files to a folder, which is made."""
        return await self._runtime.await_call(self._runtime.outputs.download(self._id, destination))


def _files(folder: Path) -> list[OutputFile]:
    found = []
    for path in sorted(folder.rglob("*")):
        # What was unpacked has no links; whoever plants one does not have it followed.
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            name = str(path.relative_to(folder))
            found.append(OutputFile(path=name, size=status.st_size, mode=status.st_mode & 0o777))
    return found


def _copy(folder: Path, target: Path, files: list[OutputFile]) -> None:
    for one in files:
        if os.path.lexists(target / one.path):
            raise InvalidInput("destination", str(target / one.path), "there is something; nothing is overwritten")
    target.mkdir(parents=True, exist_ok=True)
    for one in files:
        (target / one.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / one.path, target / one.path, follow_symlinks=False)
