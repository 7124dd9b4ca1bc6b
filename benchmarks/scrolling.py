"""How a notebook of many finished jobs opens and scrolls: `.venv/bin/python -m benchmarks.scrolling [--json FILE]`.

The file is one that a kernel has filled; JupyterLab shows it in a real Chromium without a graphics card. The reference
is the same notebook of `%%bash` cells, which have plain text as their output; they take turns.

opened    the command to open it -> its first cells are painted
frames    the time between two frames while it is scrolled from its beginning to its end, 120 pixels a frame
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.notebook import BEHIND, REFERENCE, finished
from benchmarks.report import report, spread, times
from tests.browser.chromium import Chromium
from tests.browser.lab import Lab
from tests.browser.server import KERNEL, LabServer

if TYPE_CHECKING:
    from benchmarks.report import Figure

#: Returns milliseconds: {opened, frames: [...]}.
_LOOK = """async path => {
  const frame = () => new Promise(requestAnimationFrame);
  const began = performance.now();
  const panel = await jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await panel.context.ready;
  await panel.revealed;
  await frame(); await frame();
  const opened = performance.now() - began;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  const view = panel.content.node.querySelector('.jp-WindowedPanel-outer') ?? panel.content.node;
  const frames = [];
  let before = performance.now(), still = 0;
  while (still < 10) {
    const at = view.scrollTop;
    view.scrollTop += 120;
    await frame();
    const now = performance.now();
    frames.push(now - before);
    before = now;
    still = view.scrollTop === at ? still + 1 : 0;
  }
  return {opened, frames: frames.slice(0, -10)};
}"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="finished jobs in the notebook")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is opened")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    figures = measure(options.jobs, options.rounds)
    report(f"a notebook of {options.jobs} finished jobs in JupyterLab", figures, json_file=options.json)


def measure(jobs: int = 100, rounds: int = 5) -> list[Figure]:
    """Open and scroll both notebooks in turn, and return the figures."""
    folder = Path(tempfile.mkdtemp(prefix="mgpb", dir="/var/tmp"))
    try:
        ours, reference = (_content(finished(folder, jobs, magic)) for magic in (BEHIND, REFERENCE))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    looks: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
    with LabServer() as server:
        browser = Chromium({**server.env, "HOME": str(server.folder)})
        try:
            lab = Lab(server, browser)
            lab.load()
            for _ in range(rounds):
                for name, content in (("ours", ours), ("reference", reference)):
                    looks[name].append(lab.page.evaluate(_LOOK, lab.write_notebook(content).name))
                    lab.close_all()
        finally:
            browser.close()
    return _figures(looks["ours"], looks["reference"])


def _content(path: Path) -> dict[str, Any]:
    """Return a saved notebook, with the kernel that the server has."""
    content: dict[str, Any] = json.loads(path.read_text())
    content["metadata"]["kernelspec"] = {"name": KERNEL, "display_name": "Python 3", "language": "python"}
    return content


def _figures(ours: list[dict[str, Any]], reference: list[dict[str, Any]]) -> list[Figure]:
    pairs = list(zip(ours, reference, strict=True))
    return [
        times("opened", [look["opened"] / 1000 for look in ours]),
        times("reference: opened", [look["opened"] / 1000 for look in reference]),
        spread("ratio, pair by pair", [one["opened"] / other["opened"] for one, other in pairs], "x"),
        times("frames while scrolling", [one / 1000 for look in ours for one in look["frames"]]),
        times("reference: frames", [one / 1000 for look in reference for one in look["frames"]]),
    ]


if __name__ == "__main__":
    main()
