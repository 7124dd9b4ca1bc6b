"""What the notebook costs: `.venv/bin/python -m benchmarks.notebook [--json FILE]`.

A real kernel, driven through its protocol; the fake hypervisor stands in for VMs, so that the figures are the magic's.

first output       a cell is sent -> the first text of its script is at the front end: `%%magpie` against the Python
API in a cell of the same kernel, in turn, compared pair by pair
interrupt          the stop button -> the kernel is idle, while a script sleeps; `%%bash` as the reference
10,000 lines       at 1,000 a second: bytes and messages at the front end's socket, updates (messages that come together
are one), CPU of the kernel's process, which also drives the VM; in the foreground, behind the cell (`--bg`), and
IPython's own `%%bash` as the reference
finished jobs      the size of a saved notebook whose cells have each run a job of 20 lines
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from benchmarks.kernel import Kernel
from benchmarks.report import number, report, spread, times

if TYPE_CHECKING:
    from benchmarks.kernel import Cell
    from benchmarks.report import Figure

#: What the reference's cells share: the same engine as the magic's, in the same process.
_SETUP = """
import time
from magpie_local import Magpie
client = Magpie()

def plain(script):
    job = client.jobs.create("plain", script)
    for chunk in client.jobs.stream_logs(job.id):
        print(chunk.text, end="", flush=True)

def settle():
    while any(job.vm_state != "gone" for job in client.jobs.list(limit=5)):
        time.sleep(0.02)
"""
#: Prints as many lines as it is told to, evenly, at 1,000 a second.
_PACED = """python3 - {lines} <<'EOF'
import sys, time
began = time.monotonic()
for n in range(int(sys.argv[1])):
    while time.monotonic() - began < n / 1000:
        time.sleep(0.0005)
    print(f"line {{n}} of a script with a lot to say about what it does", flush=True)
EOF
"""
_TWENTY = 'for i in $(seq 20); do echo "line $i of job {n}: all is well so far, and the loss is 0.$i"; done'
MAGIC, BEHIND, REFERENCE = "%%magpie", "%%magpie --bg", "%%bash"


def main() -> None:
    """Measure, and print a table."""
    options = _options()
    report("the notebook", measure(options.pairs, options.lines, options.jobs), json_file=options.json)


def measure(pairs: int = 30, lines: int = 10_000, jobs: int = 100) -> list[Figure]:
    """Run all parts, each in a kernel of its own, and return their figures."""
    folder = Path(tempfile.mkdtemp(prefix="mgpb", dir="/var/tmp"))
    try:
        return [
            *first_output(folder, pairs), *interrupts(folder, pairs), *long_log(folder, lines),
            *saved_size(folder, jobs),
        ]  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def first_output(folder: Path, pairs: int) -> list[Figure]:
    """Measure the way from a cell to its script's first output."""
    magic: list[float] = []
    plain: list[float] = []
    with Kernel(folder) as kernel:
        kernel.run(_SETUP)
        kernel.run("plain('echo x')")
        kernel.run(f"{MAGIC}\necho x")
        for pair in range(pairs):
            # Whoever comes second finds warmer caches: they take turns at that, too.
            for is_magic in (True, False) if pair % 2 else (False, True):
                kernel.run("settle()")
                cell = kernel.run(f"{MAGIC}\necho x" if is_magic else "plain('echo x')")
                (magic if is_magic else plain).append(cell.first_at - cell.sent_at)
    both = list(zip(magic, plain, strict=True))
    return [
        times("first output: %%magpie", magic),
        times("reference: the Python API", plain),
        times("more than the reference, pair by pair", [ours - theirs for ours, theirs in both], goal="<= 30"),
        spread("ratio, pair by pair", [ours / theirs for ours, theirs in both], "x"),
    ]


def interrupts(folder: Path, count: int) -> list[Figure]:
    """Measure the way from the stop button to an idle kernel."""
    with Kernel(folder) as kernel:
        ours, theirs = (
            [_interrupted(kernel, f"{magic}\necho up; sleep 600") for _ in range(count)] for magic in (MAGIC, REFERENCE)
        )
    return [
        times("interrupt to idle: %%magpie", ours, goal="<= 1000"),
        times("reference: %%bash", theirs),
    ]


def _interrupted(kernel: Kernel, code: str) -> float:
    cell = kernel.begin(code)
    kernel.until(lambda: cell.first_at)
    began = time.monotonic()
    kernel.interrupt()
    kernel.until(lambda: cell.idle_at)
    return cell.idle_at - began


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a cell took while its script ran."""

    seconds: float
    size: int
    messages: int
    updates: int
    #: Seconds of the kernel's CPU.
    cpu: float

    def figures(self, name: str, *, has_goal: bool = True) -> list[Figure]:
        """Return the figures of a kind of cell."""
        goals = ("<= 2", "<= 10", "<= 15") if has_goal else ("", "", "")
        return [
            number(f"{name}: sent to the front end", self.size / 1e6, "MB", goal=goals[0]),
            number(f"{name}: messages", self.messages / self.seconds, "1/s"),
            number(f"{name}: updates", self.updates / self.seconds, "1/s", goal=goals[1]),
            number(f"{name}: the kernel's CPU", 100 * self.cpu / self.seconds, "%", goal=goals[2]),
        ]


def long_log(folder: Path, lines: int) -> list[Figure]:
    """Measure what a script costs that prints 1,000 lines a second."""
    script = _PACED.format(lines=lines)
    with Kernel(folder) as kernel:
        for warming in (MAGIC, REFERENCE):
            kernel.run(f"{warming}\necho x")
        front = _load(kernel, f"{MAGIC}\n{script}")
        behind = _load(kernel, f"{BEHIND}\n{script}")
        bash = _load(kernel, f"{REFERENCE}\n{script}")
    return [
        *front.figures(f"{lines:,} lines, %%magpie"),
        *behind.figures(f"{lines:,} lines, --bg"),
        *bash.figures("reference: %%bash", has_goal=False),
    ]


def _load(kernel: Kernel, code: str) -> Load:
    before, began = kernel.cpu(), time.monotonic()
    cell = _ended(kernel, code, "cell")
    seconds, cpu = time.monotonic() - began, kernel.cpu() - before
    return Load(seconds=seconds, size=cell.size, messages=cell.messages, updates=cell.updates, cpu=cpu)


def saved_size(folder: Path, jobs: int) -> list[Figure]:
    """Measure the file of a notebook with many cells that have run."""
    figures = []
    for magic, name, goal in (
        (BEHIND, "displays of --bg", "<= 1"), (MAGIC, "%%magpie", "<= 1"), (REFERENCE, "%%bash (reference)", ""),
    ):  # fmt: skip
        size = finished(folder, jobs, magic).stat().st_size
        figures.append(number(f"file of {jobs} finished jobs, {name}", size / 1e6, "MB", goal=goal))
    return figures


def finished(folder: Path, jobs: int, magic: str) -> Path:
    """Return a saved notebook whose cells, that begin with `magic`, have each run a job of 20 lines."""
    codes = [f"{magic}\n{_TWENTY.format(n=n)}" for n in range(jobs)]
    with Kernel(folder) as kernel:
        # One at a time: what is measured is what stays, not the rush.
        cells = [_ended(kernel, code, f"cell-{position}") for position, code in enumerate(codes)]
    return _save(folder / "saved.ipynb", codes, cells)


def _ended(kernel: Kernel, code: str, cell_id: str) -> Cell:
    """Return a cell once the kernel is through with it, and what it has started shows that it has ended."""
    cell = kernel.begin(code, cell_id)
    has_job = not code.startswith(REFERENCE)
    kernel.until(lambda: cell.idle_at and (cell.error or not has_job or cell.is_final))
    assert not cell.error, cell.error
    return cell


def _save(path: Path, codes: list[str], cells: list[Cell]) -> Path:
    """Write a notebook as a front end would."""
    made = [
        {
            "cell_type": "code", "id": f"cell-{position}", "source": code, "execution_count": position,
            "metadata": {}, "outputs": list(cell.outputs.values()),
        }
        for position, (code, cell) in enumerate(zip(codes, cells, strict=True))
    ]  # fmt: skip
    book = nbformat.from_dict({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})  # type: ignore[no-untyped-call]
    nbformat.write(book, path)  # type: ignore[no-untyped-call]
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30, help="pairs of first outputs")
    parser.add_argument("--lines", type=int, default=10_000, help="lines of the long log")
    parser.add_argument("--jobs", type=int, default=100, help="finished jobs in the saved notebook")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
