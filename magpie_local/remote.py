"""What the clients hand out of a running VM: its files, and ports of it that are reachable here."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import builtins
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from magpie_local.api.runtime import Runtime
    from magpie_local.ports.shell import CopyReport, FileEntry


class JobFiles:
    """The files of a persistent job's VM, as user magpie sees them. Relative paths begin at that user's home."""

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        self._runtime = runtime
        self._id = job_id

    def list(self, path: str = ".") -> builtins.list[FileEntry]:
        """Return the entries of a folder, by name.

        Raises:
            GuestFileNotFound: there is no such folder.
            HostError: it can't be listed, or the VM can't be reached.
        """
        return self._runtime.call(_list(self._runtime, self._id, path))

    def read(self, path: str) -> bytes:
        """Return a file's content, 64 MiB at most; `download` has no such limit."""
        return self._runtime.call(_read(self._runtime, self._id, path))

    def write(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file whole or not at all; one that is there is replaced."""
        self._runtime.call(_write(self._runtime, self._id, path, data, mode))

    def download(self, source: str, destination: str | Path, *, replace: bool = False) -> CopyReport:
        """Copy a file or a folder out of the VM, to exactly `destination`; whole or not at all.

        Links and devices are left out and noted. Nothing outside `destination` is ever touched, whatever the VM says.

        Raises:
            TransferRefused: a name is unsafe, there is too much, or something is in the way.
        """
        return self._runtime.call(_download(self._runtime, self._id, source, destination, replace))

    def upload(self, source: str | Path, destination: str, *, replace: bool = False) -> CopyReport:
        """Copy a file or a folder into the VM, to exactly `destination`."""
        return self._runtime.call(_upload(self._runtime, self._id, source, destination, replace))


class AsyncJobFiles:
    """The same as `JobFiles`, awaited."""

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        self._runtime = runtime
        self._id = job_id

    async def list(self, path: str = ".") -> builtins.list[FileEntry]:
        """Return the entries of a folder, by name."""
        return await self._runtime.await_call(_list(self._runtime, self._id, path))

    async def read(self, path: str) -> bytes:
        """Return a file's content, 64 MiB at most."""
        return await self._runtime.await_call(_read(self._runtime, self._id, path))

    async def write(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file whole or not at all."""
        await self._runtime.await_call(_write(self._runtime, self._id, path, data, mode))

    async def download(self, source: str, destination: str | Path, *, replace: bool = False) -> CopyReport:
        """Copy a file or a folder out of the VM, to exactly `destination`."""
        return await self._runtime.await_call(_download(self._runtime, self._id, source, destination, replace))

    async def upload(self, source: str | Path, destination: str, *, replace: bool = False) -> CopyReport:
        """Copy a file or a folder into the VM, to exactly `destination`."""
        return await self._runtime.await_call(_upload(self._runtime, self._id, source, destination, replace))


class Forward:
    """A port of a VM that is reachable here until `close`, the end of the `with` block, or that of this process.

    Attributes:
        host: where it is reachable; this machine's loopback unless another address was named.
        port: the TCP port there.
    """

    def __init__(self, runtime: Runtime, opening: AbstractAsyncContextManager[tuple[str, int]]) -> None:
        self.host, self.port = runtime.call(opening.__aenter__())
        self._closing = weakref.finalize(self, _close, runtime, opening)

    def __repr__(self) -> str:
        return f"<Forward {self.host}:{self.port}>"

    def __enter__(self) -> Forward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, with the connections that go through it; closing twice is nothing."""
        self._closing()


def _close(runtime: Runtime, opening: AbstractAsyncContextManager[tuple[str, int]]) -> None:
    runtime.call(leave(opening))


async def leave(opening: AbstractAsyncContextManager[tuple[str, int]]) -> None:
    """End a context that was entered by hand."""
    await opening.__aexit__(None, None, None)


async def _list(runtime: Runtime, job_id: str, path: str) -> list[FileEntry]:
    return await (await runtime.remote.files(job_id)).list(path)


async def _read(runtime: Runtime, job_id: str, path: str) -> bytes:
    return await (await runtime.remote.files(job_id)).read(path)


async def _write(runtime: Runtime, job_id: str, path: str, data: bytes | str, mode: int) -> None:
    content = data.encode() if isinstance(data, str) else data
    await (await runtime.remote.files(job_id)).write(path, content, mode=mode)


async def _download(runtime: Runtime, job_id: str, source: str, destination: str | Path, replace: bool) -> CopyReport:
    files = await runtime.remote.files(job_id)
    return await files.download(source, Path(destination), replace=replace)


async def _upload(runtime: Runtime, job_id: str, source: str | Path, destination: str, replace: bool) -> CopyReport:
    files = await runtime.remote.files(job_id)
    return await files.upload(Path(source), destination, replace=replace)
