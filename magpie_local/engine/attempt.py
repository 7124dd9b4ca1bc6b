"""One attempt, from its claim to the last file cleaned up: steps J4 to J14 of a job's life (reliability.md 2.0).

Every step first makes its fact durable, so that a crash between any two of them leaves something that `recovery` can
go on from; the same methods serve a fresh attempt and an adopted one. Nothing here waits on anything without also
listening for a stop, for the VM's end and for the deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from magpie_local.domain.reasons import Reason
from magpie_local.domain.states import EventKind, ScriptState
from magpie_local.domain.template import Template
from magpie_local.domain.vm import Condition
from magpie_local.engine.bringup import BringUp
from magpie_local.engine.evidence import Evidence, gather, last_words, secure
from magpie_local.engine.faults import fault_point
from magpie_local.engine.fulldisk import resume_with_room
from magpie_local.engine.keeping import Keeping
from magpie_local.engine.ledger import Ledger
from magpie_local.engine.limits import FORK_PATIENCE, Limits, boot_budget
from magpie_local.engine.line import GuestLine
from magpie_local.engine.network import connect
from magpie_local.engine.news import wait_for_news
from magpie_local.engine.outputs import collect
from magpie_local.engine.peers import Peers
from magpie_local.engine.starter import Starter
from magpie_local.engine.teardown import destroy, tear_down
from magpie_local.engine.verdict import Circumstances, failure, judge
from magpie_local.errors import (
    HostDiskFull,
    HostError,
    ImageBroken,
    ImageNotFound,
    MagpieError,
    SnapshotUnusable,
    StateError,
    WorkspaceDamaged,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from magpie_local.domain.job import Attempt, JobRecord, Outcome
    from magpie_local.domain.vm import Accelerator
    from magpie_local.engine.context import Options, Ports
    from magpie_local.engine.keeping import Room
    from magpie_local.engine.warm.warmer import Origin
    from magpie_local.ports.guest import Launch

T = TypeVar("T")
_log = logging.getLogger("magpie.engine")

_DEAD = frozenset({Condition.GONE, Condition.CRASHED})
#: How often the engine looks at clocks and file sizes while nothing happens, seconds.
_TICK = 1.0
#: Time for the guest to enforce a stop, beyond the grace it was given, seconds.
_STOP_SLACK = 3.0
#: Further time for a guest to let go of its workspace: it may have much to write, seconds.
_UNMOUNT_SLACK = 30.0


class _InterruptedError(Exception):
    """The attempt was stopped, or its VM went, before its script had started."""


#: What to say of a fork, where the error has no words of its own.
_SILENT, _ENDED = f"it did not answer within {FORK_PATIENCE:.0f} s", "its VM ended before the script began"
_TROUBLE: dict[type[Exception], str] = {TimeoutError: _SILENT, _InterruptedError: _ENDED}


class AttemptRun:
    """Drives one attempt. `ask_stop` and `see` may be called at any time; one of the coroutines is run once.

    Args:
        ports: the world.
        options: how patient to be.
        job: the job as it is now.
        attempt: which try of it.
        accelerator: what its VM will run on.
        changed: called after each durable change, to wake those who wait for it.
        origin: what its VM is made from: a waiting fork, a template, or None for a cold boot.
        distrust: told of a template of which no VM came up, and why.
        room: says why a VM that sleeps can't have its memory back now.
    """

    def __init__(
        self, ports: Ports, options: Options, job: JobRecord, attempt: Attempt, *,
        accelerator: Accelerator, changed: Callable[[], None], origin: Origin = None,
        distrust: Callable[[Template, object], None] = lambda _template, _why: None,
        room: Room = lambda _job: None,
    ) -> None:  # fmt: skip
        self._ledger = Ledger(ports.leader, job, attempt, changed)
        self._ports = ports
        self._options = options
        self._origin = origin
        self._distrust = distrust
        self._max_starts = options.max_starts
        self._bring_up = BringUp(ports, job, attempt, origin)
        self._starter = Starter(ports, self._ledger, self._bring_up, accelerator)
        self._files = self._bring_up.files
        self._news = asyncio.Event()
        self._line = GuestLine(ports.guest, self._bring_up.control, attempt.id, self._news)
        #: Has SIGINT sent to the script; returns whether its agent can be told.
        self.interrupt = self._line.interrupt
        self._peers = Peers(ports, self._ledger, self._line)
        self._condition = Condition.RUNNING
        self._keeping = Keeping(ports, self._ledger, self._line, self._files, room)
        self._came_up = False
        self._stop_asked = job.stop_requested_at is not None
        self._limits = Limits(self._files, ports.clock, options.deadline_slack)

    @property
    def job(self) -> JobRecord:
        """The job as it is now."""
        return self._ledger.job

    @property
    def attempt(self) -> Attempt:
        """Which try of it."""
        return self._ledger.attempt

    @property
    def has_vm(self) -> bool:
        """Whether there must be a VM: before it has come up, and while it sleeps, its absence means nothing."""
        return self._came_up and not self._keeping.asleep

    @property
    def takes_room(self) -> bool:
        """Whether it has, or is about to have, its memory."""
        return self.job.needs_vm and (self._keeping.wakes or not self._keeping.asleep)

    def __repr__(self) -> str:
        return f"<AttemptRun {self.attempt.id} script {self.job.script_state} vm {self.job.vm_state}>"

    def ask_stop(self) -> None:
        """Have the job stopped; asking again is nothing."""
        self._stop_asked = True
        self._news.set()

    def look(self) -> None:
        """Have what is asked of the VM looked at."""
        self._news.set()

    def see(self, condition: Condition) -> None:
        """Take notice of what the hypervisor says of the VM; before it has come up that counts for nothing."""
        if self.has_vm and condition is not self._condition:
            self._condition = condition
            self._news.set()

    async def run(self) -> None:
        """Carry out a freshly claimed attempt."""
        await self._conclude(await self._guarded(self._from_claim()))

    async def resume(self) -> None:
        """Go on with an attempt whose VM was found alive."""
        await self._adopt(self._condition)
        await self._conclude(await self._guarded(self._from_vm()))

    async def conclude(self, condition: Condition) -> None:
        """Judge an attempt by its evidence: its VM has ended, or its exit record is there."""
        self._condition = condition
        if self.job.persistent and condition not in _DEAD:
            await self._adopt(condition)
        self._max_starts = self._options.max_interrupted_starts
        await self._conclude(await self._judge())

    async def requeue(self) -> None:
        """Give back an attempt whose VM was never started."""
        await self._conclude(None)

    async def clear(self, condition: Condition) -> None:
        """Clean up after an attempt whose end is recorded, or whose VM is to stay no longer."""
        self._condition, self._came_up = condition, True
        await self._tear_down()

    async def keep(self, condition: Condition) -> None:
        """Adopt the VM of a persistent job whose script has ended, and keep it until it is stopped."""
        await self._adopt(condition)
        await self._keeping.adopt(condition)
        await self._keep()
        await self._tear_down()

    async def _adopt(self, condition: Condition) -> None:
        self._condition, self._came_up = condition, True
        await self._ledger.record(EventKind.ADOPTED, {"vm": self.job.vm_state.value})
        if self._keeping.asleep:
            return
        with contextlib.suppress(MagpieError):  # it goes on without; its network is mended when that is possible
            await connect(self._ports, self.job, self.attempt.vm_id)

    # The way to an outcome

    async def _guarded(self, path: Coroutine[None, None, Outcome | None]) -> Outcome | None:
        try:
            return await path
        except _InterruptedError:
            return await self._judge()
        except StateError:
            # The store fails, not the job: the next reconciliation takes the attempt up again.
            raise
        except WorkspaceDamaged as error:
            return self._failed(Reason.WORKSPACE_DAMAGED, error)
        except (MagpieError, OSError) as error:
            return self._failed(Reason.START_FAILED, error)
        except Exception as error:
            # A bug of ours must not leave a job that never ends (I2).
            _log.exception("attempt %s broke", self.attempt.id, extra={"action": "attempt_broke"})
            return self._failed(Reason.START_FAILED, error)
        finally:
            await self._starter.close()
            await self._line.hang_up()

    async def _from_claim(self) -> Outcome | None:
        try:
            # Not interruptible: a VM that appears after the verdict would be a leak.
            await self._boot()
        except HostDiskFull as error:
            return self._failed(Reason.HOST_DISK_FULL, error)
        except (ImageBroken, ImageNotFound) as error:
            return self._failed(Reason.IMAGE_BROKEN, error)
        except (HostError, OSError) as error:
            if self._origin is None:
                raise
            await self._doubt(error, distrust=isinstance(error, SnapshotUnusable))
            return None
        return await self._from_vm()

    async def _from_vm(self) -> Outcome | None:
        if self.job.script_state is ScriptState.STARTING:
            try:
                launch = await self._launch()
            except (HostError, TimeoutError, _InterruptedError) as error:
                if self.job.start in ("fork", "pool") and not self._stop_asked:
                    return await self._without_fork(error)
                if isinstance(error, TimeoutError):
                    return await self._judge(failure(Reason.BOOT_TIMEOUT, ended_at=self._ports.clock.now()))
                raise
            await self._starter.started(launch)
            fault_point("J7.after")
        await self._supervise()
        return await self._judge()

    async def _launch(self) -> Launch | None:
        budget = boot_budget(self._options.boot_timeout, self.attempt, self._ports.clock, fork=self._origin is not None)
        async with asyncio.timeout(budget):
            launch = await self._unless_interrupted(self._starter.launch(self._line))
            fault_point("J9.after")
            return launch

    async def _without_fork(self, trouble: Exception) -> Outcome | None:
        """Take away a fork in which the script could not be started; the job gets a VM that boots.

        Whatever happened to the fork, also a panic: its template may be the cause, and the job is not. Where the
        script has started after all, the evidence decides as ever.
        """
        await self._doubt(_TROUBLE.get(type(trouble), trouble))
        await destroy(self._ports.hypervisor, self.attempt.vm_id)
        self._condition = Condition.GONE
        evidence = await self._look()
        return await self._judge() if evidence.started or evidence.exit else None

    async def _doubt(self, why: object, *, distrust: bool = True) -> None:
        """Note that a fork is of no use; where it was not one that had worked already, its template is given up."""
        await self._ledger.note(f"no use of the {self.job.start or self._bring_up.kind}: {why}")
        if isinstance(self._origin, Template) and distrust:
            self._distrust(self._origin, why)

    async def _boot(self) -> None:
        if self._stop_asked:
            raise _InterruptedError
        await self._starter.boot()
        self._came_up = True
        fault_point("J6.after")

    async def _unless_interrupted(self, work: Coroutine[None, None, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self._wait_for_space()
                if self._stop_asked or self._is_broken:
                    raise _InterruptedError
                await wait_for_news(self._news, _TICK, task)
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # While the script runs

    async def _supervise(self) -> None:
        """Return when the attempt is over, for whatever cause; the evidence tells which."""
        listener = asyncio.create_task(self._line.listen(self._look))
        clock, stop_by, stop_sent = self._ports.clock, math.inf, False
        try:
            while not (self._line.exited or self._is_broken or self._limits.passed(self.job)):
                await self._wait_for_space()
                await self._peers.look()
                if self._stop_asked:
                    slack = _STOP_SLACK + (_UNMOUNT_SLACK if self.job.workspace_id else 0.0)
                    stop_by = min(stop_by, clock.monotonic() + self._options.stop_grace + slack)
                    stop_sent = stop_sent or await self._line.stop(self._options.stop_grace)
                if clock.monotonic() >= stop_by:
                    return
                await wait_for_news(self._news, _TICK)
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener

    @property
    def _is_broken(self) -> bool:
        """Whether the VM can't go on: without a workspace a full disk is its end."""
        return self._condition in _DEAD or (self._condition is Condition.DISK_ERROR and not self.job.workspace_id)

    async def _wait_for_space(self) -> None:
        """Let a VM that a full disk has paused go on where there is room."""
        paused = self._condition is Condition.DISK_ERROR and not self._is_broken
        if paused and await resume_with_room(self._ports, self._ledger):
            self._condition = Condition.RUNNING

    async def _judge(self, otherwise: Outcome | None = None) -> Outcome | None:
        """Return the outcome by the evidence; None where the script never started and may be tried in a new VM."""
        evidence = await last_words(self._look) if self._line.exited else await self._look()
        if self.job.script_state is ScriptState.RUNNING:
            # What is recorded has happened, though a power cut may have taken the log's beginning.
            evidence = replace(evidence, started=True)
        if otherwise is not None and evidence.exit is None and not self._stop_asked and not evidence.panicked:
            return otherwise
        never_ran = not (evidence.started or evidence.exit or evidence.panicked or self._stop_asked)
        if never_ran and self._condition is Condition.GONE and self.attempt.number < self._max_starts:
            return None
        clock = self._ports.clock
        return judge(
            evidence,
            Circumstances(
                condition=self._condition,
                stop_asked=self._stop_asked,
                overdue=self._limits.overdue,
                flooded=self._limits.flooded,
                rebooted=self.attempt.boot_id != clock.boot_id(),
                timeout=self.job.timeout,
                started_at=self.job.started_at,
                claimed_at=self.attempt.claimed_at,
                now=clock.now(),
            ),
        )

    async def _look(self) -> Evidence:
        return await asyncio.to_thread(gather, self._files, self.attempt.nonce)

    async def _conclude(self, outcome: Outcome | None) -> None:
        if outcome is None:
            await self._tear_down()
            await self._ledger.record(EventKind.REQUEUED)
            return
        fault_point("J10.after")
        await asyncio.to_thread(secure, self._files.log)
        if self.job.outputs and (record := (await self._look()).exit) and record.outputs:
            await collect(self._ports, self._ledger, self._files, record.outputs)
        await self._ledger.finish(outcome)
        fault_point("J11.after")
        self._ledger.changed()
        if self.job.is_kept:
            await self._keep()
        await self._tear_down()

    async def _keep(self) -> None:
        """Return when a VM that stays is to go, or has gone."""
        try:
            while not (self._stop_asked or self._keeping.lost or (self.has_vm and self._condition in _DEAD)):
                if self.has_vm:
                    await self._wait_for_space()
                    await self._peers.look()
                if await self._keeping.look():
                    self._condition = Condition.RUNNING
                    continue
                await wait_for_news(self._news, _TICK)
        finally:
            await self._line.hang_up()
        if self.has_vm and self._condition in _DEAD:
            await self._ledger.note(f"the VM that was to stay has ended ({self._condition})")

    async def _tear_down(self) -> None:
        if await self._keeping.rouse():
            self._came_up, self._condition = True, Condition.RUNNING
        # A guest that has ended its script has let go of its disks as well, unless it was to stay.
        lives = self.job.persistent and self.has_vm and self._condition not in _DEAD
        grace = self._options.stop_grace
        await tear_down(self._ports, self._ledger, self._line, self._files, grace=grace if lives else None)

    def _failed(self, reason: Reason, error: Exception) -> Outcome:
        return failure(reason, message=str(error) or type(error).__name__, ended_at=self._ports.clock.now())
