"""Workspaces on the host: python -m benchmarks.workspaces [--json FILE] [--folder DIR] [--written GIB].

What is measured is a change of a workspace that holds gigabytes, as a user's program sees it: lock, files, rows, syncs.
The references, in the same run on the same disk, are a plain `cp` of the very file, without which there would be no
second copy, and a single `qemu-img create`, without which there would be no overlay. No VM is started.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Figure, missing, report, times
from magpie_local import config
from magpie_local.engine.workspaces import Workspaces
from magpie_local.hypervisor.disks import QemuDisks
from magpie_local.wiring import open_engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from magpie_local.engine.context import Ports

REPEATS = 20
SIZE_GB = 5
TOOLS = ("qemu-img", "qemu-io", "prlimit")


def main() -> None:
    """Run all parts and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.workspaces")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="measure on the disk of this folder")
    parser.add_argument("--written", type=int, default=4, help="GiB that the workspace holds, at most 4")
    arguments = parser.parse_args()
    title = f"Workspace of {SIZE_GB} GiB, {arguments.written} GiB of it written"
    report(title, run(arguments.folder, arguments.written), json_file=arguments.json)


def run(folder: Path, written: int) -> list[Figure]:
    """Return all figures, or why there are none."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return [missing("workspaces", f"not installed: {', '.join(lacking)}")]
    with tempfile.TemporaryDirectory(dir=folder, prefix="magpie-bench-") as name:
        return asyncio.run(measure(Path(name), written))


async def measure(folder: Path, written: int) -> list[Figure]:
    """Return all figures."""
    settings = config.load({"MAGPIE_CONFIG": ""}, home=folder / "state", hypervisor="fake")
    async with open_engine(settings) as engine:
        await engine.ports.leader.lead()
        ports = replace(engine.ports, disks=QemuDisks())
        do = Workspaces(ports)
        made = [await timed(partial(do.create, f"blank-{at}", 10)) for at in range(REPEATS)]
        await do.create("w", SIZE_GB)
        await asyncio.to_thread(fill, await head(ports), written)
        references = await asyncio.to_thread(references_of, await head(ports), folder)
        return [
            *references,
            times("create, 10 GiB, empty", made, goal="<= 800"),
            *await changes(do),
            times("ready for a VM, after them all", [await timed(lambda: do.prepare("w")) for _ in range(REPEATS)],
                  goal="<= 50"),
            times("export to one file", [await timed(lambda: do.export("w", folder / "export"))]),
            times("import of it", [await timed(lambda: do.import_(folder / "export", "back"))]),
        ]  # fmt: skip


async def changes(do: Workspaces) -> list[Figure]:
    """Return the figures of what is done at once, whatever the workspace holds."""
    ready = [await timed(lambda: do.prepare("w")) for _ in range(REPEATS)]
    snapshots = [await timed(partial(do.snapshot, "w", f"s{at}")) for at in range(REPEATS)]
    rollbacks = [await timed(partial(do.rollback, "w", f"s{at}")) for at in range(REPEATS)]
    clones = [await timed(partial(do.clone, "w", f"clone-{at}")) for at in range(REPEATS)]
    return [
        times("ready for a VM", ready, goal="<= 50"),
        times("snapshot", snapshots, goal="<= 200"),
        times("rollback", rollbacks, goal="<= 200"),
        times("clone", clones, goal="<= 200"),
    ]


def references_of(disk: Path, folder: Path) -> list[Figure]:
    """Return what copying the file costs, and what qemu-img costs for one overlay."""
    copies, overlays = [], []
    for _ in range(3):
        copies.append(spent("cp", "--reflink=never", str(disk), str(folder / "copy")))
        (folder / "copy").unlink()
    for at in range(REPEATS):
        base, over = str(disk), str(folder / f"over{at}")
        overlays.append(spent("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, over))
    return [times("reference: cp of the file", copies), times("reference: qemu-img create of an overlay", overlays)]


def fill(disk: Path, written: int) -> None:
    """Write to a disk as a guest does, behind what the file system keeps at its beginning."""
    parts = [part for at in range(2 * written) for part in ("-c", f"write -q -P {at + 1} {512 + 512 * at}M 512M")]
    subprocess.run(["qemu-io", "-f", "qcow2", *parts, str(disk)], check=True)


async def head(ports: Ports) -> Path:
    """Return the file that the workspace is written to."""
    found = await ports.workspaces.get("w")
    assert found is not None
    assert found.head is not None
    return ports.layout.disk(found.head)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long something takes, seconds."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def spent(*command: str) -> float:
    """Return how long a program takes, seconds."""
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
