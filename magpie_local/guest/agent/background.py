"""Work that blocks, beside the loop: in a thread, and by programs.

Threads and programs run as ordinary processes do: the agent's real-time priority is its own.
"""

from __future__ import annotations

import _thread
import os

from magpie_local.guest.agent.processes import ordinary_oom_score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from magpie_local.guest.agent.loop import Loop

    T = TypeVar("T")

#: What the agent's own programs find in their environment.
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
#: Most characters kept of a program's words.
_MAX_WORDS = 1500


class Trouble(Exception):
    """What was asked can't be done; the text says why."""


def in_background(loop: Loop, work: Callable[[], T], done: Callable[[T | Trouble], None]) -> None:
    """Do `work` in a thread, then call `done` on the loop with what it returned, or the Trouble it raised.

    Any other error of `work` is raised on the loop.
    """
    news = os.eventfd(0)
    outcome: list[T | BaseException] = []

    def carry_out() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # raised again on the loop
            outcome.append(error)
        finally:
            os.eventfd_write(news, 1)

    def finished() -> None:
        loop.unwatch(news)
        os.close(news)
        result = outcome[0]
        if isinstance(result, BaseException) and not isinstance(result, Trouble):
            raise result
        done(result)

    loop.watch(news, finished)
    _thread.start_new_thread(carry_out, ())


def run_program(argv: list[str], source: int | None = None) -> tuple[int, str]:
    """Run a program to its end, with the descriptor `source` or nothing to read.

    Returns:
        Its exit code (negative: the signal that ended it) and its last words.

    Raises:
        Trouble: it can't be started.
    """
    words = os.memfd_create("words")
    try:
        pid = spawn(argv, words, source)
        status = os.waitpid(pid, 0)[1]
        size = os.fstat(words).st_size
        text = os.pread(words, _MAX_WORDS, max(0, size - _MAX_WORDS))
        return os.waitstatus_to_exitcode(status), " ".join(text.decode(errors="replace").split())
    finally:
        os.close(words)


def spawn(argv: list[str], output: int, source: int | None = None) -> int:
    """Start a program in a session of its own, with `source` or nothing to read; return its process.

    Raises:
        Trouble: it can't be started.
    """
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    try:
        pid = os.posix_spawn(
            argv[0], argv, ENV, setsid=True, setsigmask=(), setsigdef=range(1, 32),
            file_actions=[
                nothing if source is None else (os.POSIX_SPAWN_DUP2, source, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
        )  # fmt: skip
    except OSError as error:
        raise Trouble(f"{argv[0]} can't be started: {error}") from None
    ordinary_oom_score(pid)
    return pid
