"""Measure the references alone: `.venv/bin/python -m benchmarks.references [--json FILE] [NAME ...]`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.references import ReferenceUnavailable
from benchmarks.references.cold import RawCold
from benchmarks.references.debian import DebianCloudInit
from benchmarks.references.fork import RawFork
from benchmarks.references.virtme import Virtme
from benchmarks.report import number, report, spread
from magpie_local import config

if TYPE_CHECKING:
    from benchmarks.references import Reference
    from benchmarks.report import Figure

_CACHE = Path("/var/tmp/magpie-bench-references")
#: The slow ones are started three times, whatever is asked for.
_SLOW = 3


def main() -> None:
    """Measure, and print a table; below it, why some could not be measured."""
    options = _options()
    images = config.load().images
    known: dict[str, tuple[Reference, int]] = {
        "cold": (RawCold(images), options.starts),
        "fork": (RawFork(images, options.cache), options.starts),
        "virtme": (Virtme(options.cache), _SLOW),
        "debian": (DebianCloudInit(options.cache), _SLOW),
    }
    figures = [number("machine load before", os.getloadavg()[0], "")]
    missing = []
    for name in options.names or known:
        reference, count = known[name]
        try:
            figures.append(measure(reference, count))
        except ReferenceUnavailable as error:
            missing.append(f"{reference.name}: not measured: {error}")
    report("references", figures, json_file=options.json)
    print("\n".join(missing))


def measure(reference: Reference, count: int) -> Figure:
    """Return the spread of `count` starts.

    Raises:
        ReferenceUnavailable: it can't be measured here.
    """
    reference.prepare()
    return spread(reference.name, [reference.start_seconds() for _ in range(count)], "s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cold, fork, virtme, debian; all when none is named")
    parser.add_argument("--starts", type=int, default=10, help="starts of our own guest")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="keeps disks, kernels and programs")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    for name in options.names:
        if name not in ("cold", "fork", "virtme", "debian"):
            parser.error(f"there is no reference {name!r}")
    return options


if __name__ == "__main__":
    main()
