"""The warm-up: a harmless script on the way that a real one takes, with no trace but warm caches.

An emulator translates code when it first runs, and a guest reads files when they are first needed: what the warm-up
has run before, the job's script finds ready.
"""

from __future__ import annotations

import os
from binascii import crc32

from magpie_local.guest.agent.log import Log
from magpie_local.guest.agent.runorder import RunOrder
from magpie_local.guest.agent.script import Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.guest.agent.loop import Loop
    from magpie_local.guest.agent.machine import Machine

#: Seconds that it may take.
LIMIT = 60.0

#: What jobs call most, and what every job needs last: the emulator's cache of translated code is small, and drops all
#: of it at once when it is full. It writes to its output only; python3 is told to keep no compiled code.
TEXT = rb"""
set -e
python3 -c 'import json, os, sys; print(json.dumps({"pid": os.getpid()}), flush=True); print(sys.argv, file=sys.stderr)'
ls -l / | sort | head -n 3 | sed 's/ .*//' | grep -c .
cat /proc/loadavg; date; env | cut -d= -f1; sleep 0.001; mkdir -p .
greet() { local name=$1; [[ $name == w* ]] && printf '%s\n' "hello ${name^}"; }
for name in world; do greet "$name"; done
while read -r line; do echo "${line//a/b} $((6 * 7)) $(greet warm)" >&2; done < <(printf 'a\nb\n')
bash -c 'echo'
"""


class Warmup:
    """Runs the warm-up once.

    Args:
        loop: the agent's loop.
        machine: where the agent runs.
        ended: called with the exit code when nothing of it is left.
    """

    def __init__(self, loop: Loop, machine: Machine, ended: Callable[[int], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._sink = os.open(os.devnull, os.O_WRONLY)
        self._order = RunOrder(_message(machine.env), machine.script)
        self._order.take(TEXT)
        self._order.close()
        script = Script(loop, Log(self._sink), self._order, self._exited)
        script.start(self._order.env, machine.home)

    def _exited(self, code: int) -> None:
        # The script still has to be buried.
        self._loop.after(0, lambda: self._clean(code))

    def _clean(self, code: int) -> None:
        os.unlink(self._order.path)
        os.close(self._sink)
        self._ended(code)


def _message(env: dict[str, str]) -> dict[str, object]:
    return {
        "attempt": "", "nonce": "", "timeout": LIMIT, "env": env | {"PYTHONDONTWRITEBYTECODE": "1"},
        "log_limit": 1 << 20, "now": 0.0, "entropy": "", "script_size": len(TEXT), "script_crc": crc32(TEXT),
    }  # fmt: skip
