"""Make the pictures of the documentation: python -m tests.browser.screenshots [FOLDER], docs/images by default.

The jobs run on the fake hypervisor: it is the notebook that is shown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.chromium import Chromium
from tests.browser.lab import DARK, LIGHT, Lab
from tests.browser.server import ROOT, LabServer

if TYPE_CHECKING:
    from tests.browser.lab import Notebook

#: Of the page, in pixels; and the most bytes that a picture may have.
_SIZE, _MOST = (860, 720), 100_000
_LOAD = "%load_ext magpie_local\nepochs = 3"
_SHORT = """%%magpie -e epochs --memory 2GB
for epoch in $(seq $epochs); do
    echo "epoch $epoch of $epochs"; sleep 0.2
done"""
_LONG = r"""%%magpie --bg --name train --timeout 10m
for epoch in $(seq 600); do
    printf 'epoch %3d  \033[32mloss 0.%03d\033[0m\n' $epoch $((900 / epoch)); sleep 0.3
done"""
_FAILING = r"""%%magpie --name tests
printf '\033[32mPASSED\033[0m test_shapes\n\033[31mFAILED\033[0m test_order\n'
echo 'test_order: expected [1, 2, 3], not [3, 2, 1]' >&2
exit 1"""


def main(folder: Path) -> None:
    """Make them."""
    folder.mkdir(parents=True, exist_ok=True)
    with LabServer(MAGPIE_CPUS="2") as server:
        browser = Chromium({**server.env, "HOME": str(server.folder)}, _SIZE, scale=1.25)
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
    notebook = lab.open(lab.write(_LOAD, _SHORT, _LONG))
    for number in range(3):
        notebook.run(number)
    expect(notebook.output(2)).to_contain_text("epoch  20")  # by then the curves are curves
    for theme, name in ((DARK, "dark"), (LIGHT, "light")):
        lab.theme(theme)
        _shoot(notebook, folder / f"notebook-{name}.png")
    lab.close_all()


def _failed(lab: Lab, folder: Path) -> None:
    notebook = lab.open(lab.write(_LOAD, _FAILING))
    for number in range(2):
        notebook.run(number)
    _shoot(notebook, folder / "notebook-failed.png")
    lab.close_all()


def _shoot(notebook: Notebook, path: Path) -> None:
    """Take a picture of a notebook down to its last output.

    Raises:
        ValueError: it is too large for a page that is to load at once.
    """
    notebook.page.mouse.move(0, 0)
    cells = notebook.panel.locator(".jp-CodeCell")
    top, last = notebook.panel.bounding_box(), cells.last.bounding_box()
    assert top is not None
    assert last is not None
    height = min(top["height"], last["y"] + last["height"] - top["y"] + 12)
    notebook.page.screenshot(
        path=path, clip={"x": top["x"], "y": top["y"], "width": top["width"], "height": height}, animations="disabled"
    )
    if (size := path.stat().st_size) > _MOST:
        raise ValueError(f"{path} has {size:,} bytes, more than {_MOST:,}: make the page smaller")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
