"""The engine's thread: why blocking cells, Ctrl-C and nested loops can't touch a job.

The engine runs on a loop of its own in a daemon thread. Callers hold nothing but futures:

- a blocking call waits for its future; KeyboardInterrupt cancels the coroutine, waits until that has taken effect,
and goes on up
  (`run_coroutine_threadsafe(...).result()` alone would leave it running, measured in the design notes);
- an awaiting call does not await the future as such: ipykernel delivers an interrupt only when the loop next wakes
(ipykernel #881),
  so the loop is woken five times a second;
- at interpreter exit the runtime must close before concurrent.futures shuts its threads down, or the last writes
would find no thread
  to run on. `atexit` is too late for that; `threading._register_atexit` is where concurrent.futures itself hooks
  in, last one first.

One runtime serves all clients of the same settings in a process. A forked child can't use it: its thread did not come
along.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from magpie_local.api.bridge import Call
from magpie_local.api.jobs import JobService
from magpie_local.api.metrics import MetricsService
from magpie_local.api.monitoring import MonitoringService
from magpie_local.api.networks import NetworkService
from magpie_local.api.outputs import OutputService
from magpie_local.api.remote import RemoteService
from magpie_local.api.shells import ShellCache
from magpie_local.api.templates import TemplateService
from magpie_local.api.workspaces import WorkspaceService
from magpie_local.errors import ClientClosed
from magpie_local.wiring import open_engine, open_shells, start_keeper

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from magpie_local.config import Settings
    from magpie_local.engine.engine import Engine

T = TypeVar("T")

#: How long an interrupted caller waits for its call to end, seconds.
_CANCEL_PATIENCE = 5.0
#: How long the interpreter's exit may wait for the engine, seconds.
_EXIT_PATIENCE = 10.0
_PULSE = 0.2

_shared: dict[tuple[Settings, bool], Runtime] = {}
_guard = threading.Lock()


class Runtime:
    """An engine with its thread; use `acquire` to get one."""

    def __init__(self, settings: Settings, *, lead: bool) -> None:
        self.settings = settings
        self.jobs: JobService
        self.templates: TemplateService
        self.workspaces: WorkspaceService
        self.monitoring: MonitoringService
        self.metrics: MetricsService
        self.remote: RemoteService
        self.networks: NetworkService
        self.outputs: OutputService
        self._lead = lead
        self._users = 0
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._engine: Engine
        self._stop: asyncio.Event
        #: Whether this process led, or asked for something: then it leaves nothing undone behind.
        self._obliged = lead
        self._thread = threading.Thread(target=self._main, name="magpie engine", daemon=True)
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()

    @classmethod
    def acquire(cls, settings: Settings, *, lead: bool) -> Runtime:
        """Return the process's runtime for `settings`, started; call `release` when done.

        Raises:
            StateError: the state directory can't be used.
        """
        with _guard:
            runtime = _shared.get((settings, lead))
            if runtime is None or runtime._pid != os.getpid():
                runtime = cls(settings, lead=lead)
                runtime._start()
                _shared[settings, lead] = runtime
            runtime._users += 1
            return runtime

    def release(self) -> None:
        """Give it back; the last one closes the engine and hands unfinished work to a keeper."""
        with _guard:
            self._users -= 1
            if self._users > 0 or self._pid != os.getpid():
                return
            if _shared.get((self.settings, self._lead)) is self:
                del _shared[self.settings, self._lead]
        self._close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and return its result; blocks."""
        call = self._make_call(work)
        try:
            call.start()
            return call.future.result()
        except KeyboardInterrupt:
            call.give_up()
            concurrent.futures.wait([call.future], _CANCEL_PATIENCE)
            raise

    async def await_call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and return its result; awaits on the caller's loop."""
        call = self._make_call(work)
        call.start()
        future = asyncio.wrap_future(call.future)
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=_PULSE)
        except asyncio.CancelledError:
            call.give_up()
            raise
        return future.result()

    @property
    def role(self) -> str:
        """Who leads: this (process), other or none."""
        return self._engine.role

    def _make_call(self, work: Coroutine[Any, Any, T]) -> Call[T]:
        if self._pid != os.getpid() or not self._thread.is_alive():
            work.close()
            raise ClientClosed
        return Call(work, self._loop)

    def _start(self) -> None:
        self._thread.start()
        self._ready.result()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                if self._ready.done():
                    raise
                self._ready.set_exception(error)  # whoever starts the runtime gets it

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with open_engine(self.settings) as engine:
            self._engine = engine
            self.jobs = JobService(
                engine,
                log_limit=self.settings.log_limit,
                network=self.settings.network,
                stop_grace=self.settings.stop_grace,
                summon=self._summon,
            )
            budget = self.settings.templates
            self.templates = TemplateService(engine, budget=budget, summon=self._summon)
            self.workspaces = WorkspaceService(engine)
            self.monitoring = MonitoringService(engine, self.templates, budget=budget)
            self.metrics = MetricsService(engine)
            self.networks = NetworkService(engine)
            self.outputs = OutputService(engine)
            shells = ShellCache(open_shells())
            self.remote = RemoteService(engine, shells, self._summon)
            await engine.open(lead=self._lead)
            self._ready.set_result(None)
            await self._stop.wait()
            await shells.close()
            await engine.close()
            if self._obliged and self.settings.keeper and await engine.work_left():
                start_keeper(self.settings)

    def _summon(self) -> None:
        """See to it that what was asked for is carried out, also when this process does not lead."""
        self._obliged = True
        if not self._lead and self._engine.role == "none":
            start_keeper(self.settings)

    def _close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_EXIT_PATIENCE)


async def next_batch(batches: AsyncGenerator[list[T], None]) -> list[T]:
    """Return the next batch of a stream that lives on the engine's loop; empty at its end."""
    empty: list[T] = []
    return await anext(batches, empty)


def _close_all() -> None:
    with _guard:
        runtimes = [runtime for runtime in _shared.values() if runtime._pid == os.getpid()]
        _shared.clear()
    for runtime in runtimes:
        runtime._close()


getattr(threading, "_register_atexit", atexit.register)(_close_all)
