"""Domains that end with the engine, however that ends."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from magpie_local.hypervisor.host.monitor import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Seconds for ending what must not outlive the engine.
_HELD_BUDGET = 3.0


class Held:
    """The ids of such domains."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        #: Those of them whose start is not over.
        self._starting: set[str] = set()
        self._leaving = False

    def update(self, vms: Iterable[str]) -> None:
        """Take up domains that an earlier host held."""
        self._held.update(vms)

    def discard(self, vm: str) -> None:
        """Let a domain outlive the engine from now on."""
        self._held.discard(vm)

    @contextlib.contextmanager
    def starting(self, hold: str | None) -> Iterator[None]:
        """Hold a domain from before it is there: an engine can die in the middle of a start."""
        if hold is None:
            yield
            return
        self._starting.add(hold)
        self._held.add(hold)
        try:
            if self._leaving:
                raise SnapshotError("the engine has gone")
            yield
        except BaseException:
            self._held.discard(hold)
            raise
        finally:
            self._starting.discard(hold)

    def end(self, connection: Any) -> None:
        """Destroy them, as far as that is possible within a few seconds."""
        self._leaving = True
        ends = [threading.Thread(target=self._end, args=(connection, vm), daemon=True) for vm in self._held.copy()]
        for end in ends:
            end.start()
        give_up = time.monotonic() + _HELD_BUDGET
        for end in ends:
            end.join(max(0.0, give_up - time.monotonic()))

    def _end(self, connection: Any, vm: str) -> None:
        while True:
            starts = vm in self._starting
            # Broad: libvirt's error has no name here, and the next engine finds what is left.
            with contextlib.suppress(Exception):
                connection.lookupByUUIDString(vm).destroy()
                return
            if not starts:
                return
            time.sleep(0.01)
