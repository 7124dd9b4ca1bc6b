"""The content of one file over SFTP, in many requests at once: a round trip for each would cost most of the time."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from magpie_local.errors import TransferError, TransferRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncssh

#: Requests under way at once, and most bytes of one: OpenSSH's server takes 255 KiB, others that say nothing 32 KiB.
_AT_ONCE = 16
_MOST, _LEAST = 255 * 1024, 1024
#: How many bytes may be known of in memory before they are handed to the disk.
_BATCH = 4 * 1024 * 1024


async def fetch(
    sftp: asyncssh.SFTPClient, path: str, descriptor: int, *, size: int, limit: int, tell: Callable[[int], None]
) -> int:
    """Copy a file of the VM into an open one here; return its size, bytes.

    Args:
        size: what the server says the file has, bytes; it may have changed, or be a lie.
        limit: most bytes to take.
        tell: called with the size of each piece.

    Raises:
        TransferRefused: there are more than `limit` bytes.
    """
    block = _block(sftp.limits.max_read_len)
    batch = _Batch(descriptor)
    async with sftp.open(path, "rb", block_size=0) as file:

        async def one(offset: int, wanted: int) -> None:
            while wanted:
                data = cast(bytes, await file.read(wanted, offset))
                if not data:
                    return  # it was cut meanwhile
                if len(data) > wanted:
                    raise TransferRefused(f"The VM sent more of {path!r} than it was asked for.")
                tell(len(data))
                await batch.add(offset, data)
                offset, wanted = offset + len(data), wanted - len(data)

        if size > limit:
            raise TransferRefused(f"{path!r} has {size} bytes; at most {limit} more may be copied.")
        await _in_pieces(size, block, one)
        # What has grown meanwhile, and files that are made as they are read, which say they are empty.
        end = batch.end
        while end == size and (data := cast(bytes, await file.read(min(block, limit - end + 1), end))):
            if end + len(data) > limit:
                raise TransferRefused(f"{path!r} has more than the {limit} bytes that may be copied.")
            tell(len(data))
            await batch.add(end, data)
            end = size = end + len(data)
    await batch.flush()
    return batch.end


async def send(
    sftp: asyncssh.SFTPClient, file: asyncssh.SFTPClientFile, descriptor: int, *, size: int, tell: Callable[[int], None]
) -> None:
    """Copy the first `size` bytes of an open file here into an open one of the VM.

    Raises:
        TransferError: the file here got shorter meanwhile.
    """

    async def one(offset: int, wanted: int) -> None:
        data = os.pread(descriptor, wanted, offset)
        if len(data) != wanted:
            raise TransferError("A file was cut while it was copied.", hint="Copy it again.")
        await file.write(data, offset)
        tell(len(data))

    await _in_pieces(size, _block(sftp.limits.max_write_len), one)


class _Batch:
    """Pieces of a file on their way to the disk, whose slowness must not hold up the event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: list[tuple[int, bytes]] = []
        self._size = 0
        self._writing = asyncio.Lock()
        #: Where the last piece ends, bytes.
        self.end = 0

    async def add(self, offset: int, data: bytes) -> None:
        """Take a piece; returns once there is room for the next."""
        self._pieces.append((offset, data))
        self._size += len(data)
        self.end = max(self.end, offset + len(data))
        if self._size >= _BATCH:
            await self.flush()

    async def flush(self) -> None:
        """Write what is held."""
        async with self._writing:
            pieces, self._pieces, self._size = self._pieces, [], 0
            if len(pieces) == 1 or self.end < _BATCH:
                self._write(pieces)  # less than it costs to change threads
            else:
                await asyncio.to_thread(self._write, pieces)

    def _write(self, pieces: list[tuple[int, bytes]]) -> None:
        for offset, data in pieces:
            view = memoryview(data)
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                offset, view = offset + written, view[written:]


def _block(offered: int) -> int:
    """Return the bytes of one request: what the server offers, within reason."""
    return max(_LEAST, min(offered or _MOST, _MOST))


async def _in_pieces(size: int, block: int, one: Callable[[int, int], Awaitable[None]]) -> None:
    """Call `one` with offset and size of each piece of `size` bytes, several at a time."""
    offsets = iter(range(0, size, block))

    async def work() -> None:
        for offset in offsets:
            await one(offset, min(block, size - offset))

    workers = min(_AT_ONCE, -(-size // block))
    if workers <= 1:
        await work()
        return
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first is the cause; the rest only heard of it
