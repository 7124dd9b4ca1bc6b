"""As much of QEMU's machine protocol as a template and its forks need."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_REDIAL = 0.002


class Monitor:
    """An open monitor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        #: How migrations ended that were heard of while something else was waited for.
        self._migrations: list[str] = []

    async def call(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """Return the answer to a command.

        Raises:
            ReferenceUnavailable: QEMU refused, or has gone.
        """
        self._writer.write(json.dumps({"execute": command, "arguments": arguments or {}}).encode())
        while True:
            message = await self._next()
            if "error" in message:
                raise ReferenceUnavailable(f"QEMU refused {command}: {message['error']}")
            if "return" in message:
                return message["return"]

    async def use_shared_memory(self) -> None:
        """Leave memory that lies in a file out of the migrations to come, and have their ends reported."""
        capabilities = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
        await self.call("migrate-set-capabilities", {"capabilities": capabilities})

    async def migrated(self) -> None:
        """Return when the migration under way has completed.

        Raises:
            ReferenceUnavailable: it failed, or QEMU has gone.
        """
        while not self._migrations:
            await self._next()
        if self._migrations.pop() != "completed":
            raise ReferenceUnavailable("QEMU could not save or load the device state")

    async def _next(self) -> dict[str, object]:
        line = await self._reader.readline()
        if not line:
            raise ReferenceUnavailable("QEMU ended")
        message: dict[str, object] = json.loads(line)
        match message:
            case {"event": "MIGRATION", "data": {"status": "completed" | "failed" as status}}:
                self._migrations.append(status)
        return message


@asynccontextmanager
async def monitor(path: Path) -> AsyncIterator[Monitor]:
    """Yield the monitor of a QEMU that is just starting."""
    reader, writer = await dial(path)
    try:
        opened = Monitor(reader, writer)
        await reader.readline()  # its greeting
        await opened.call("qmp_capabilities")
        yield opened
    finally:
        writer.transport.abort()


async def dial(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a socket that may not be there yet; the caller sets the time limit."""
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(_REDIAL)
