"""One change of a workspace at a time, on the whole machine: a flock that the kernel frees with its holder."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from magpie_local.engine.files import private_folder
from magpie_local.engine.locks import ProcessLock
from magpie_local.errors import WorkspaceInUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from magpie_local.domain.layout import Layout

#: How often one who waits tries again, seconds.
_TRY = 0.01


class WorkspaceLock(ProcessLock):
    """A lock whose file may be removed with what it stands for."""

    def acquire(self) -> bool:
        """Try to take it, without waiting; return whether it is held now."""
        while super().acquire():
            if self._is_in_place():
                return True
            # Whoever held it before has removed the file: others would lock the one that takes its place.
            self.release()
        return False

    def discard(self) -> None:
        """Remove the file of a lock that is held, and give it back."""
        if self.held:
            self._path.unlink(missing_ok=True)
            self.release()

    def _is_in_place(self) -> bool:
        assert self._fd is not None
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self._path))
        except FileNotFoundError:
            return False


@asynccontextmanager
async def holding(layout: Layout, workspace_id: str, patience: float | None) -> AsyncIterator[WorkspaceLock]:
    """Hold a workspace's lock.

    Args:
        layout: where it lies.
        workspace_id: checked before.
        patience: how long to wait for another who holds it, seconds; None is for ever.

    Raises:
        WorkspaceInUse: another holds it for longer.
    """
    await asyncio.to_thread(private_folder, layout.workspaces)
    lock = WorkspaceLock(layout.workspace_lock(workspace_id))
    clock = asyncio.get_running_loop().time
    began = clock()
    while not lock.acquire():
        if patience is not None and clock() - began >= patience:
            hint = "Try again when that is done."
            raise WorkspaceInUse(f"The workspace {workspace_id} is being changed or exported.", hint=hint)
        await asyncio.sleep(_TRY)
    try:
        yield lock
    finally:
        lock.release()
