"""JupyterLab's page as its user works with it: notebooks, cells, the stop button, themes."""

from __future__ import annotations

import itertools
import json
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.browser.chromium import PATIENCE
from tests.browser.server import KERNEL

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.browser.chromium import Chromium
    from tests.browser.server import LabServer

LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
_DONE = re.compile(r"\[\d+\]:")
#: Opens a notebook; waits for its kernel where it is to have one.
_OPEN = """async ({path, kernel}) => {
  const panel = await jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  if (kernel) {
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
  }
}"""
#: Saves a notebook.
_SAVE = """async path => {
  const panel = [...jupyterapp.shell.widgets('main')].find(widget => widget.context?.path === path);
  await panel.context.save();
}"""
#: Closes each notebook, and shuts down its kernel without waiting for its end.
_CLOSE = """async () => {
  for (const panel of [...jupyterapp.shell.widgets('main')]) {
    const session = panel.sessionContext?.session?.id;
    panel.dispose();
    if (session) { jupyterapp.serviceManager.sessions.shutdown(session).catch(() => {}); }
  }
}"""
_SETTLED = """async () => {
  for (const panel of jupyterapp.shell.widgets('main')) {
    if (panel.sessionContext) { await panel.context.ready; await panel.sessionContext.ready; }
  }
}"""

expect.set_options(timeout=PATIENCE)


class Lab:
    """The page of a server in a browser."""

    def __init__(self, server: LabServer, browser: Chromium) -> None:
        self.server = server
        self.browser = browser
        self.page: Page = browser.page
        self._numbers = itertools.count(1)
        self._is_restoring = False

    def load(self) -> None:
        """Load JupyterLab afresh."""
        self.page.goto(f"{self.server.url}lab?reset&token={self.server.token}")
        self._loaded()
        self._is_restoring = False

    def reload(self) -> None:
        """Load the page again, as a user does; what was open comes back."""
        self.page.reload()
        self._loaded()
        self._is_restoring = True
        self.page.evaluate(_SETTLED)

    def write(self, *cells: str) -> Path:
        """Write a notebook of code cells."""
        return self.write_notebook(
            {
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {"kernelspec": {"name": KERNEL, "display_name": "Python 3", "language": "python"}},
                "cells": [
                    {"cell_type": "code", "id": f"cell-{number}", "source": cell, "metadata": {}, "outputs": [],
                     "execution_count": None}
                    for number, cell in enumerate(cells)
                ],
            }
        )  # fmt: skip

    def write_notebook(self, content: dict[str, Any]) -> Path:
        """Write a notebook, as its format (nbformat 4) has it."""
        path = self.server.notebooks / f"notebook-{next(self._numbers)}.ipynb"
        path.write_text(json.dumps(content))
        return path

    def open(self, path: Path, *, kernel: bool = True) -> Notebook:
        """Open a notebook.

        Args:
            path: of a file that the server has.
            kernel: whether it is to have one; without, JupyterLab asks which, and is told none.
        """
        opening = {"path": path.name, "kernel": kernel}
        self.page.evaluate(_OPEN, opening)
        if not kernel:
            self.page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()
        notebook = Notebook(self, path)
        expect(notebook.panel).to_be_visible()
        return notebook

    def close_all(self) -> None:
        """Close all notebooks, without saving."""
        self.page.evaluate(_CLOSE)
        if self._is_restoring:  # it may open again, at any time, what was open before the page was loaded again
            self.load()

    def theme(self, name: str) -> None:
        """Choose a theme."""
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        light = "true" if name == LIGHT else "false"
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    def _loaded(self) -> None:
        self.page.wait_for_function("window.jupyterapp !== undefined")
        self.page.evaluate("async () => { await jupyterapp.restored; }")


class Notebook:
    """A notebook in the page, the only one that is open."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.lab = lab
        self.page = lab.page
        self.path = path

    @property
    def panel(self) -> Locator:
        """All of it, toolbar included."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def cell(self, number: int) -> Locator:
        """Return a cell, counted from 0."""
        return self.panel.locator(".jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        """Return what is below a cell."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def select(self, number: int) -> None:
        """Select a cell as a whole, so that keys are commands."""
        self.cell(number).locator(".jp-InputPrompt").first.click()

    def start(self, number: int) -> None:
        """Run a cell; returns once it runs, or has ended."""
        self.select(number)
        self.page.keyboard.press("Control+Enter")
        expect(self._prompt(number)).to_have_text(re.compile(r"\[(\*|\d+)\]:"))

    def run(self, number: int) -> None:
        """Run a cell to its end."""
        self.start(number)
        self.wait_end(number)

    def wait_end(self, number: int) -> None:
        """Wait until a cell has ended."""
        expect(self._prompt(number)).to_have_text(_DONE)

    def is_running(self, number: int) -> bool:
        """Whether a cell runs, or waits for others to end."""
        return "*" in self._prompt(number).inner_text()

    def wait_idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        indicator = self.panel.locator(".jp-Notebook-ExecutionIndicator")
        expect(indicator).to_have_attribute("data-status", "idle")

    def press_stop(self) -> None:
        """Press the stop button of the notebook."""
        self.panel.locator("[data-jp-item-name=interrupt]").click()

    def save(self) -> dict[str, Any]:
        """Save it; returns what is in its file."""
        before = self.path.stat().st_mtime_ns
        self.page.evaluate(_SAVE, self.path.name)
        # The page may go on before the file is written, and it is written in place.
        give_up = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < give_up:
            with suppress(json.JSONDecodeError):
                if self.path.stat().st_mtime_ns > before:  # looked at first: what is read then is no older
                    content: dict[str, Any] = json.loads(self.path.read_text())
                    return content
            time.sleep(0.02)
        raise TimeoutError(f"{self.path} was not saved within {PATIENCE / 1000:.0f} s")

    def _prompt(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-InputPrompt").first
