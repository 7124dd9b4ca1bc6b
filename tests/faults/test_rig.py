"""What the fault tests look for at their end is found where it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASLEEP = [sys.executable, "-c", "print(flush=True); input()"]


@pytest.mark.parametrize("named", ["on the command line", "in the environment", "by its sockets"])
def test_a_process_that_is_left_behind_is_told(rig, named):
    assert rig.submit() == 0
    rig.check()
    rig.patience = 0.1
    words = {"on the command line": [str(rig.home / "x")], "by its sockets": [str(rig.run / "x")]}.get(named, [])
    environment = rig.env if named == "in the environment" else None
    with subprocess.Popen([*ASLEEP, *words], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stray:
        assert stray.stdout is not None
        stray.stdout.readline()

        with pytest.raises(AssertionError, match=r"left behind: .*input\(\)"):
            rig.check()

        stray.kill()
    rig.check()
