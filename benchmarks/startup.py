"""What typing a command costs: `.venv/bin/python -m benchmarks.startup [--json FILE]`. Whole processes, in turn."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Figure, report, times

_COMMANDS = {
    "reference: python -c pass": ([sys.executable, "-c", "pass"], ""),
    "import magpie_local": ([sys.executable, "-c", "import magpie_local"], "<= 200"),
    "from magpie_local import Magpie": ([sys.executable, "-c", "from magpie_local import Magpie"], ""),
    "magpie --help": ([str(Path(sys.executable).with_name("magpie")), "--help"], "<= 250"),
}


def measure(rounds: int = 20) -> list[Figure]:
    """Return the wall time of each command."""
    taken: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(rounds):
        for name, (command, _) in _COMMANDS.items():
            began = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.monotonic() - began)
    return [times(name, taken[name], goal=goal) for name, (_, goal) in _COMMANDS.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    report("starting up", measure(), json_file=parser.parse_args().json)
