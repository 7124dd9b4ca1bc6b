"""The one script of an agent's life: its start, its limits and its end."""

from __future__ import annotations

import os
import time

from magpie_local.domain import frames
from magpie_local.guest.agent.output import Output
from magpie_local.guest.agent.processes import kill_session, ordinary_oom_score, others_in_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Any

    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop, Timer
    from magpie_local.guest.agent.masked import MaskedLog
    from magpie_local.guest.agent.runorder import RunOrder

    Facts = dict[str, Any]
    Settle = Callable[[Callable[[Facts], None]], None]

if not TYPE_CHECKING:
    # The core of `signal`, without the enums that cost an emulated guest a tenth of a second.
    import _signal as signal

BASH = "/bin/bash"
#: Seconds between SIGTERM and SIGKILL when the script's time is over.
TIMEOUT_GRACE = 1.0
#: Seconds between two looks whether the rest of an ending script's process group has gone.
GROUP_LOOK = 0.05

#: Python ignores the first two, whoever started us may ignore the others; an ignored signal survives execve.
_IGNORED = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip


class Script:
    """A running `bash FILE`, in its own session and process group.

    Args:
        loop: the agent's loop.
        log: gets its output and the marks.
        order: what to run, and how.
        ended: called with its exit code once the exit record is written.
        settle: has its outputs handed over and all that it wrote reach its disk before that record, and calls back with
            what the record says of that.
    """

    def __init__(
        self, loop: Loop, log: Log, order: RunOrder, ended: Callable[[int], None], settle: Settle | None = None
    ) -> None:
        self._loop = loop
        self._log = log
        self._order = order
        self._ended = ended
        self._settle = settle or _nothing_to_settle
        self._masked = _masked(loop, log, order.mask)
        self._output = Output(loop, self._masked or log)
        self._pid = 0
        self._pidfd = -1
        self._deadline: Timer | None = None
        self._kill: Timer | None = None
        self._timed_out = self._stopped = self._finishing = False
        self._started_at = self._ended_at = 0.0

    def start(self, env: Mapping[str, str], folder: str) -> None:
        """Start it in `folder` with exactly `env`.

        The STARTED frame comes first: from then on nobody may start this attempt again, whatever happens.
        """
        order = self._order
        self._log.limit(order.log_limit)
        self._log.mark(frames.STARTED, frames.pack({"attempt": order.attempt, "nonce": order.nonce}))
        out, err = os.pipe(), os.pipe()
        self._started_at = time.time()
        self._pid = _spawn(order.path, env, folder, out[1], err[1])
        for kind, (read_end, write_end) in ((frames.STDOUT, out), (frames.STDERR, err)):
            os.close(write_end)
            self._output.attach(kind, read_end)
        self._pidfd = os.pidfd_open(self._pid)
        self._loop.watch(self._pidfd, self._look)
        if order.timeout is not None:
            self._deadline = self._loop.after(order.timeout, self._time_is_over)

    def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after `grace` seconds; nothing when it has exited by itself."""
        if self._kill is not None:
            self._kill.due = min(self._kill.due, time.monotonic() + grace)
        elif not self._look():
            self._stopped = True
            self._terminate(grace)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does in a terminal; nothing when it has exited, or is being ended."""
        if self._kill is None and not self._look():
            self._signal(signal.SIGINT)
            self._signal(signal.SIGCONT)

    def _time_is_over(self) -> None:
        if self._kill is None and not self._look():
            self._timed_out = True
            self._terminate(TIMEOUT_GRACE)

    def _terminate(self, grace: float) -> None:
        self._kill = self._loop.after(grace, lambda: self._signal(signal.SIGKILL))
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process would get the SIGTERM only when continued

    def _signal(self, number: int) -> None:
        # The child makes its own group first of all; until then there is only the process.
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            os.kill(self._pid, number)

    def _look(self) -> bool:
        """Return whether bash has exited; if so, finish the job.

        It stays a zombie until all is done: so its number means nobody else while its group and session are killed.
        """
        if self._finishing:
            return True
        end = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return False
        if self._pidfd >= 0:
            self._ended_at = time.time()
            self._loop.cancel(self._deadline)
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._kill is not None and others_in_group(self._pid):
            # bash dies of SIGTERM at once; what it had called has the same grace to end well.
            self._loop.after(GROUP_LOOK, self._look)
        else:
            self._finish(end)
        return True

    def _finish(self, end: os.waitid_result) -> None:
        self._finishing = True
        self._loop.cancel(self._kill)
        # What a persistent job's script has started in the background goes on, unless the script was made to end.
        if self._order.persistent and self._kill is None:
            self._output.abandon()
        else:
            self._signal(signal.SIGKILL)
            self._output.drain()
        if self._masked is not None:
            self._masked.flush()
        self._log.flush()
        self._settle(lambda facts: self._conclude(end, facts))

    def _conclude(self, end: os.waitid_result, facts: Facts) -> None:
        record = self._record(end) | facts
        self._log.mark(frames.EXIT, frames.pack(record))
        self._ended(record["code"])
        if not self._order.persistent:
            kill_session(self._pid)
        os.waitpid(self._pid, 0)

    def _record(self, end: os.waitid_result) -> dict[str, Any]:
        number = None if end.si_code == os.CLD_EXITED else end.si_status
        return {
            "nonce": self._order.nonce,
            "code": end.si_status if number is None else 128 + number,
            "signal": number,
            "timed_out": self._timed_out,
            "stopped": self._stopped,
            "started_at": self._started_at,
            "ended_at": self._ended_at,
        }


def _masked(loop: Loop, log: Log, secrets: list[str]) -> MaskedLog | None:
    if not secrets:
        return None
    from magpie_local.guest.agent.masked import MaskedLog  # not every script has secrets

    return MaskedLog(loop, log, secrets)


def _nothing_to_settle(done: Callable[[Facts], None]) -> None:
    done({})


def _spawn(path: str, env: Mapping[str, str], folder: str, out: int, err: int) -> int:
    """Start bash, and return its process.

    Not by a fork: to copy the agent's page tables, and then page by page what both write to, costs an emulated guest
    more than all the rest. All descriptors but the three are closed by their own flag.
    """
    before, here = os.umask(0o022), os.open(".", os.O_PATH)
    try:
        os.chdir(folder)
        pid = os.posix_spawn(
            BASH, [BASH, path], env, setsid=True, setsigmask=(), setsigdef=_IGNORED,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
            ],
        )  # fmt: skip
    except (OSError, ValueError) as error:
        return _spawn_excuse(error, err)
    finally:
        os.umask(before)
        os.fchdir(here)  # an agent that stood in the workspace would keep it from being unmounted
        os.close(here)
    ordinary_oom_score(pid)
    return pid


def _spawn_excuse(error: Exception, err: int) -> int:
    """Start, in the place of a bash that can't be started, what says so and fails."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.write(err, f"magpie: can't start {BASH}: {error}\n".encode(errors="replace"))
        finally:
            os._exit(126)
    return pid
