"""What a kernel has one of: its client, made at first use, and the thread behind its cells."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from typing import TYPE_CHECKING

from magpie_local import Job
from magpie_local.lookup import resolve
from notebook_ext.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magpie_local import AsyncMagpie, Magpie
    from magpie_local.config import Settings
    from notebook_ext.settings import Project

#: Seconds that the kernel's end may wait for the client's: a notebook server kills it soon after.
_FAREWELL = 2.0


class Session:
    """The client of one kernel, in both faces: they share an engine, which runs on a thread of its own.

    Args:
        project: what the notebook's project says of settings.
    """

    def __init__(self, project: Project) -> None:
        self.worker = Worker()
        self.project = project
        self._clients: tuple[Magpie, AsyncMagpie] | None = None
        self._pid = os.getpid()

    @property
    def client(self) -> Magpie:
        """The blocking client, for cells and users."""
        return self._open()[0]

    @property
    def behind(self) -> AsyncMagpie:
        """The same for the worker's loop."""
        return self._open()[1]

    def settings(self) -> Settings:
        """Return the settings of the client."""
        return self._clients[0].settings if self._clients is not None else self.project.settings()

    def exists(self) -> bool:
        """Whether there is a state directory: looking (completion, say) must not make one."""
        return self._clients is not None or self.settings().home.is_dir()

    def job_id(self, word: str, variables: Mapping[str, object]) -> str:
        """Return the id that a word means: of a job, the beginning of one, or a variable that holds a Job.

        Raises:
            InvalidInput, JobNotFound: no job, or several, can be meant.
        """
        value = variables.get(word)
        return value.id if isinstance(value, Job) else resolve(self.client, word)

    def _open(self) -> tuple[Magpie, AsyncMagpie]:
        if self._clients is None or self._pid != os.getpid():
            from magpie_local import AsyncMagpie, Magpie

            settings = self.project.settings()
            client = Magpie(settings=settings)
            self._clients, self._pid = (client, AsyncMagpie(settings=settings)), os.getpid()
            # As the engine's runtime does: atexit comes too late, behind the threads' own end. Last one first.
            getattr(threading, "_register_atexit", atexit.register)(self.close)
        return self._clients

    def close(self) -> None:
        """Leave, within two seconds; unfinished jobs go on, in the hands of a keeper."""
        if self._clients is None or self._pid != os.getpid():
            return
        (client, behind), self._clients = self._clients, None

        def leave() -> None:
            asyncio.run(behind.close())
            client.close()

        farewell = threading.Thread(target=leave, name="magpie farewell", daemon=True)
        farewell.start()
        farewell.join(_FAREWELL)
