"""The one script of an agent's life: its start, its limits and its end."""

from __future__ import annotations

import os
import time

from magpie_local.domain import frames
from magpie_local.guest.agent.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Any

    from magpie_local.guest.agent.log import Log
    from magpie_local.guest.agent.loop import Loop, Timer
    from magpie_local.guest.agent.runorder import RunOrder

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
    """A running `bash FILE`, in its own session and process group."""

    def __init__(self, loop: Loop, log: Log, order: RunOrder, ended: Callable[[int], None]) -> None:
        self._loop = loop
        self._log = log
        self._order = order
        self._ended = ended
        self._output = Output(loop, log)
        self._pid = 0
        self._pidfd = -1
        self._deadline: Timer | None = None
        self._kill: Timer | None = None
        self._timed_out = self._stopped = False
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
        end = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return False
        if self._pidfd >= 0:
            self._ended_at = time.time()
            self._loop.cancel(self._deadline)
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._kill is not None and _has_others(self._pid):
            # bash dies of SIGTERM at once; what it had called has the same grace to end well.
            self._loop.after(GROUP_LOOK, self._look)
        else:
            self._finish(end)
        return True

    def _finish(self, end: os.waitid_result) -> None:
        self._loop.cancel(self._kill)
        self._signal(signal.SIGKILL)
        self._output.drain()
        self._log.flush()
        record = self._record(end)
        self._log.mark(frames.EXIT, frames.pack(record))
        self._ended(record["code"])
        _kill_session(self._pid)
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


def _has_others(group: int) -> bool:
    """Return whether a process group has live members beside its leader."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command's name, in brackets, may hold anything; what follows it is state, parent, group.
                state, _parent, its_group = file.read().rpartition(b")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and int(name) != group and state not in (b"Z", b"X"):
            return True
    return False


def _kill_session(session: int) -> None:
    """Kill what is left of a session whose leader is dead: background jobs have process groups of their own."""
    for _ in range(10):  # a fork bomb may need several rounds
        everybody = map(int, filter(str.isdecimal, os.listdir("/proc")))
        members = [pid for pid in everybody if pid != session and _session(pid) == session]
        if not members:
            return
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _spawn(path: str, env: Mapping[str, str], folder: str, out: int, err: int) -> int:
    """Start bash, and return its process.

    Not by a fork: to copy the agent's page tables, and then page by page what both write to, costs an emulated guest
    more than all the rest. All descriptors but the three are closed by their own flag.
    """
    before = os.umask(0o022)
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
    _ordinary_oom_score(pid)
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


def _ordinary_oom_score(pid: int) -> None:
    """Undo the agent's own protection against the kernel's memory killer, before bash comes to call anything."""
    try:
        score = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)
    except OSError:
        return  # it has ended
    try:
        os.write(score, b"0")
    except OSError:
        return  # never below zero, and no right to lower it
    finally:
        os.close(score)
