"""Measure, and print a table: about fifteen minutes, and nine without the slow references (`--fast`)."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from benchmarks.references.cold import RawCold
from benchmarks.references.debian import DebianCloudInit
from benchmarks.references.fork import RawFork
from benchmarks.references.virtme import Virtme
from benchmarks.report import number, report
from benchmarks.warm import burst, memory, refill, spans, starts
from benchmarks.warm.bench import client, wait_for_pool
from magpie_local import config

_CACHE = Path("/var/tmp/magpie-bench-references")
_SLOW = 3


def main() -> None:
    """Run all parts; the references come last, with nothing of ours running."""
    options = _options()
    figures = [number("machine load before", os.getloadavg()[0], "")]
    with client(pool=2) as pooled, client(pool=0) as forking:
        measured = starts.measure(pooled, forking, options.starts)
    figures += measured.figures()
    images = config.load().images
    figures += starts.references([(RawCold(images), options.starts), (RawFork(images, _CACHE), options.starts)])
    if not options.fast:
        figures += starts.references([(Virtme(_CACHE), _SLOW), (DebianCloudInit(_CACHE), _SLOW)])
    figures += [figure for kind in starts.KINDS for figure in spans.figures(kind, measured.spans[kind])]
    with client(pool=refill.POOL) as pooled, client(pool=0) as forking:
        wait_for_pool(pooled, refill.POOL)
        figures.append(memory.exercised(pooled))
        figures += refill.measure(pooled, forking, options.refills)
    with client(pool=0) as forking:
        figures += burst.measure(forking, "forks", isolation="shared")
        figures += burst.measure(forking, "cold boots", isolation="private")
        forking.close()
        figures.append(asyncio.run(memory.loaded(forking.settings)))
    report("warm starts on real VMs", figures, json_file=options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=30, help="starts of each kind")
    parser.add_argument("--refills", type=int, default=12, help="jobs measured beside a refill, and beside a full pool")
    parser.add_argument("--fast", action="store_true", help="leave out the references that take minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
