"""Make the pictures of the documentation: python -m tests.browser.screenshots [FOLDER], docs/images by default.

The jobs run in real VMs; MAGPIE_IMAGES names the folder of the base image where it is not the usual one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.chromium import PATIENCE, Chromium
from tests.browser.lab import DARK, LIGHT, Lab
from tests.browser.server import ROOT, LabServer

if TYPE_CHECKING:
    from tests.browser.lab import Notebook

#: Of the page, in pixels; and the most bytes that a picture may have.
_SIZE, _MOST = (860, 1100), 100_000
_LOAD = "%load_ext magpie_local\nepochs = 3"
_SHORT = """%%magpie -e epochs
for epoch in $(seq $epochs); do
    echo "epoch $epoch of $epochs"
done"""
_LONG = r"""%%magpie --bg --name train --memory 2GB -o job
for epoch in $(seq 600); do
    python3 -c 'sum(range(2_000_000))'
    printf 'epoch %3d  \033[32mloss 0.%03d\033[0m\n' $epoch $((900 / epoch))
done"""
_FAILING = r"""%%magpie --name tests
printf '\033[32mPASSED\033[0m test_shapes\n\033[31mFAILED\033[0m test_order\n'
echo 'test_order: expected [1, 2, 3], not [3, 2, 1]' >&2
exit 1"""


def main(folder: Path) -> None:
    """Make them."""
    folder.mkdir(parents=True, exist_ok=True)
    real = {"MAGPIE_HYPERVISOR": None, "MAGPIE_CPUS": None, "MAGPIE_IMAGES": os.environ.get("MAGPIE_IMAGES")}
    with LabServer(**real) as server:
        (server.notebooks / "pyproject.toml").write_text("[tool.magpie_local]\ntail_lines = 7\n")
        browser = Chromium({**server.env, "HOME": str(server.folder)}, _SIZE, scale=1.0)
        try:
            lab = Lab(server, browser)
            lab.load()
            lab.page.evaluate("jupyterapp.shell.collapseLeft()")
            _running(lab, folder)
            _failed(lab, folder)
        finally:
            browser.close()


def _running(lab: Lab, folder: Path) -> None:
    """Show a cell that has ended and one in the background, in light and dark."""
    notebook = lab.open(lab.write(_LOAD, _SHORT, _LONG, "job.stop()"))
    for number in range(3):
        notebook.run(number)
    expect(notebook.output(2)).to_contain_text("epoch  12", timeout=4 * PATIENCE)  # by then the curves are curves
    for theme, name in ((DARK, "dark"), (LIGHT, "light")):
        lab.theme(theme)
        _shoot(notebook, 2, folder / f"notebook-{name}.png")
    notebook.run(3)
    lab.close_all()


def _failed(lab: Lab, folder: Path) -> None:
    notebook = lab.open(lab.write("%load_ext magpie_local", _FAILING))
    for number in range(2):
        notebook.run(number)
    _shoot(notebook, 1, folder / "notebook-failed.png")
    lab.close_all()


def _shoot(notebook: Notebook, last: int, path: Path) -> None:
    """Take a picture of a notebook's cells up to the `last` one.

    Raises:
        ValueError: it is too large for a page that is to load at once.
    """
    notebook.page.mouse.move(0, 0)
    begin, end = notebook.cell(0).bounding_box(), notebook.cell(last).bounding_box()
    assert begin is not None
    assert end is not None
    clip = {"x": begin["x"], "y": begin["y"], "width": begin["width"], "height": end["y"] + end["height"] - begin["y"]}
    notebook.page.screenshot(path=path, clip=clip, animations="disabled")  # type: ignore[arg-type]  # FloatRect
    if (size := path.stat().st_size) > _MOST:
        raise ValueError(f"{path} has {size:,} bytes, more than {_MOST:,}: make the page smaller")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
